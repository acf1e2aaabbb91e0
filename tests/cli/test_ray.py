import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.conftest import Done


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--engine ray: name a new folder with --out FOLDER"),
        (("--out", "out", "--explain", "why.jsonl"), "--explain: --engine ray writes rows alone"),
        (("--out", "out", "--adapt", "learnt.model"), "--adapt: --engine ray writes rows alone"),
    ],
)
def test_what_a_cluster_does_not_write_is_refused(
    memae: Callable[..., Done],
    model: Callable[..., Path],
    benign: pd.DataFrame,
    words: tuple[str, ...],
    message: str,
) -> None:
    model("table")
    benign.to_csv("rows.csv", index=False)
    done = memae("score", "model", "rows.csv", "--engine", "ray", *words)
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert not Path("out").exists()


def test_standard_input_is_refused(memae: Callable[..., Done], model: Callable[..., Path]) -> None:
    model("table")
    done = memae("score", "model", "-", "--engine", "ray", "--out", "out")
    assert done.code == 1
    assert "-: standard input cannot be read by several machines; name files" in done.err


def test_without_ray_it_names_the_extra(
    memae: Callable[..., Done],
    model: Callable[..., Path],
    benign: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model("table")
    benign.to_csv("rows.csv", index=False)
    monkeypatch.delitem(sys.modules, "memae.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = memae("score", "model", "rows.csv", "--engine", "ray", "--out", "out")
    assert done.code == 1
    assert "memae[ray]" in done.err
    assert not Path("out").exists()
