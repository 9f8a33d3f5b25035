"""What several test files need."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def libri10() -> Path:
    """The folder of ten speakers with ten utterances each; SCL_DATA says where, else it lies beside the repository."""
    root = Path(__file__).resolve().parents[1]
    folder = root / os.environ.get("SCL_DATA", "../shared/data/libri10")
    if not (folder / "metadata.csv").is_file():
        pytest.skip(f"real speech is not at {folder}; set SCL_DATA to the folder of libri10")
    return folder
