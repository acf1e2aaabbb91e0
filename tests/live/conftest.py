from pathlib import Path

import pytest

from memae import Detector


@pytest.fixture(scope="session")
def detector(footage: Path) -> Detector:
    """The model of the shared footage."""
    return Detector.load(footage / "camera.model", device="cpu", engine="torch")
