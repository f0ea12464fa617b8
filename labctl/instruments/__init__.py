"""What a driver is: link, base class, capabilities, derived instruments, errors."""
