"""Names of files and columns that try to steer the terminal or a spreadsheet."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memae import Detector
from tests.cli.conftest import Done

RED = "\x1b[31mred\x1b]0;owned\x07"


def test_names_of_images_never_steer_the_terminal(
    memae: Callable[..., Done],
    model: Callable[..., Path],
    folder: Path,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
) -> None:
    model("image")
    write_pngs(digits(0)[:3], folder / "zeros")
    (folder / "zeros" / "001.png").rename(folder / "zeros" / f"{RED}.png")
    (folder / "zeros" / f"{RED}2.png").write_bytes(b"no image")
    failed = memae("score", "model", "zeros")
    skipped = memae("score", "model", "zeros", "--skip-bad", "--out", "scores.csv")
    gone = memae("score", "model", f"gone{RED}")
    assert (failed.code, skipped.code, gone.code) == (1, 0, 1)
    for done in (failed, skipped, gone):
        assert "\x1b" not in done.err + done.out
        assert r"\x1b[31mred\x1b]0;owned\x07" in done.err


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_names_of_columns_never_steer_the_terminal(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame, words: tuple[str, ...]
) -> None:
    frame = benign.rename(columns={"mean radius": RED}).assign(shape=RED)
    Detector(settings={"train": {"epochs": 1}, "memory": {"num_items": 12}}).fit(frame).save(folder / "model")
    shown = memae("inspect", "model", *words)
    assert shown.code == 0, shown.err
    assert "\x1b" not in shown.out + shown.err
    assert "x1b[31mred" in shown.out.replace("\n", "") or "u001b[31mred" in shown.out
    frame.drop(columns=RED).to_csv("other.csv", index=False)
    missing = memae("score", "model", "other.csv")
    assert missing.code == 1
    assert "\x1b" not in missing.err


def test_the_password_of_an_address_is_never_said(memae: Callable[..., Done], model: Callable[..., Path]) -> None:
    model("image")
    for word in ("rtsp://admin:secret@camera/1", "http://admin:secret@camera/1.mp4"):
        done = memae("score", "model", word)
        assert done.code == 1
        assert "secret" not in done.err
        assert "is an address" in done.err
