import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from memae import Detector
from memae.errors import DataError
from memae.serve import batching
from memae.serve.batching import LEAST, Batcher, BatchFacts, Work
from memae.web import RefusedError
from tests.small_detectors import MALIGNANT


def table(start: int, stop: int) -> pa.Table:
    return pa.Table.from_pandas(MALIGNANT.iloc[start:stop], preserve_index=False)


@contextmanager
def busy(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The worker stops at its next pass until the function is called."""
    go_on, detect = threading.Event(), detector.detect

    def waits(*arguments: Any, **options: Any) -> Any:
        assert go_on.wait(30)
        return detect(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(detector, "detect", waits)
        yield go_on.set
        go_on.set()


def test_work_that_waits_is_scored_together_as_if_each_were_alone(
    models: Mapping[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, passes = models["rows"], list[BatchFacts]()
    parts = [table(0, 1), table(1, 4), table(4, 5)]
    alone = [detector.detect(part, explained="all") for part in parts]
    batcher = Batcher(30.0, passes.append)
    with busy(detector, monkeypatch) as go_on:
        first = batcher.submit(Work(detector, table(0, 1), 1))
        while len(batcher):
            time.sleep(0.001)
        answers = [batcher.submit(Work(detector, part, len(part), "all")) for part in parts]
        other = batcher.submit(Work(detector, parts[0], 1))
        go_on()
        found = [answer.result(30) for answer in answers]
    assert len(first.result(30)) == len(other.result(30)) == 1
    batcher.close()
    assert [(one.requests, one.samples) for one in passes] == [(1, 1), (3, 5), (1, 1)]
    for one, wanted in zip(found, alone, strict=True):
        assert one.scores == pytest.approx(wanted.scores, rel=1e-6)
        assert [why.score for why in one.explanations] == pytest.approx(wanted.scores, rel=1e-6)


def test_bad_work_fails_alone_and_the_worker_goes_on(
    models: Mapping[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = models["rows"]
    bad = pa.Table.from_pandas(MALIGNANT.iloc[:2].assign(**{"mean radius": [1.0, np.inf]}), preserve_index=False)
    batcher = Batcher(30.0, lambda _: None)
    with busy(detector, monkeypatch) as go_on:
        batcher.submit(Work(detector, table(0, 1), 1))
        while len(batcher):
            time.sleep(0.001)
        good, failing = batcher.submit(Work(detector, table(0, 2), 2)), batcher.submit(Work(detector, bad, 2))
        go_on()
        assert len(good.result(30)) == 2
        with pytest.raises(DataError, match="mean radius"):
            failing.result(30)
    defect = batcher.submit(Work(detector, 3, 1))
    with pytest.raises(Exception, match=r"."):
        defect.result(30)
    assert batcher.alive
    batcher.close()


def test_what_waited_too_long_or_was_given_up_is_not_scored_and_the_rest_is_answered_at_the_end(
    models: Mapping[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, passes = models["rows"], list[BatchFacts]()
    batcher = Batcher(0.2, passes.append)
    with busy(detector, monkeypatch) as go_on:
        first = batcher.submit(Work(detector, table(0, 1), 1))
        while len(batcher):
            time.sleep(0.001)
        late, given_up = (batcher.submit(Work(detector, table(0, 1), 1)) for _ in range(2))
        given_up.cancel()
        time.sleep(0.3)
        last = batcher.submit(Work(detector, table(0, 3), 3))
        go_on()
        batcher.close()
    assert len(first.result(0)) == 1
    assert len(last.result(0)) == 3
    with pytest.raises(RefusedError, match=r"no time for it within 0\.2 s"):
        late.result(0)
    assert [(one.requests, one.samples) for one in passes] == [(1, 1), (1, 3)]
    with pytest.raises(RefusedError, match="about to stop"):
        batcher.submit(Work(detector, table(0, 1), 1))


def test_half_of_what_waits_is_scored_at_a_time_and_less_of_a_slow_model(
    models: Mapping[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, passes = models["rows"], list[BatchFacts]()
    for pass_s, most in ((1e6, 40), (1e-9, LEAST)):  # a pass may take any time, or none
        monkeypatch.setattr(batching, "PASS_S", pass_s)
        passes.clear()
        batcher = Batcher(30.0, passes.append)
        with busy(detector, monkeypatch) as go_on:
            first = batcher.submit(Work(detector, table(0, 1), 1))
            while len(batcher):
                time.sleep(0.001)
            answers = [batcher.submit(Work(detector, table(at, at + 2), 2)) for at in range(40)]
            go_on()
            found = [answer.result(30) for answer in (first, *answers)]
        batcher.close()
        assert [len(one) for one in found] == [1, *[2] * 40]
        assert sum(one.samples for one in passes) == 81
        assert max(one.samples for one in passes) == passes[1].samples == most
