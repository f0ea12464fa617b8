"""Where the genuine recordings are: LABCTL_REAL_DATA, or beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("labctl", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("labctl")


@pytest.fixture(scope="session")
def real_data() -> Path:
    checkout = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("LABCTL_REAL_DATA", checkout.parent / "shared" / "data" / "real"))
    if not (folder / "hydraharp_v30_t2.ptu").exists():
        pytest.skip(f"no genuine recordings in {folder}; set LABCTL_REAL_DATA")
    return folder
