"""Models that an earlier version wrote load today and say what they said then; tests/golden/check_v9.py tells how."""

from pathlib import Path

import PIL
import pytest

from memae import Detector
from tests.golden.check_v9 import GOLDENS, check


@pytest.mark.parametrize("name", GOLDENS)
def test_a_model_of_format_9_says_what_it_said(name: str, tmp_path: Path) -> None:
    if name == "image-files" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("earlier versions of Pillow round a resized image otherwise, by up to 1 of 255")
    check(name, tmp_path, load=lambda path: Detector.load(path, device="cpu", engine="torch"))
