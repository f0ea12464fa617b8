"""What labctl is compared with: one script per peer, and the environments that peers run in."""
