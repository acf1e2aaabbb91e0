"""Events and scores in SQLite, read while they are written."""

import threading
import time
from pathlib import Path

import pytest

from memae.errors import DataError
from memae.live.message import ScoreMessage
from memae.live.sinks import Outbox, SinkError
from memae.live.sinks.history import History, HistorySettings, HistorySink
from tests.live.sinks.small_messages import event


def test_an_event_has_one_row_with_its_last_state(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "history.sqlite"
    history, sink = History(path), HistorySink(HistorySettings(path=path))
    assert history.events() == []
    began = time.time()
    for message in (
        event("new", at=began),
        event("update", score=5.0, at=began),
        event("end", score=5.0, at=began),
    ):
        sink.send(message)
    (row,) = history.events()
    last = message.as_dict()
    assert row == {name: last[name] for name in row if name not in ("boxes", "is_normal")} | {
        "boxes": [[0.1, 0.2, 0.3, 0.6]],
        "is_normal": False,
    }
    assert history.event("0001-a") == row
    assert history.event("0002-a") is None
    sink.close()


def test_events_are_found_by_camera_and_time_the_latest_first(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history, sink = History(path), HistorySink(HistorySettings(path=path, keep_days=1e5))
    for at in range(10):
        sink.send(event("end", f"{at}", source="yard" if at % 2 else "door", at=float(at)))
    assert [one["id"] for one in history.events(most=3)] == ["9", "8", "7"]
    assert [one["id"] for one in history.events(source="door", since=2, until=7)] == ["6", "4", "2"]
    sink.close()


def test_of_scores_the_highest_of_5_s_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history, sink = History(path), HistorySink(HistorySettings(path=path, keep_score_days=1e5))
    for at, score in enumerate([1.0, 3.0, 2.0, 1.0, 1.0, 0.5, 0.7]):
        sink.send(ScoreMessage("yard", 1000.0 + at, score, 2.5))
    assert [(one.at, one.score, one.threshold) for one in history.scores("yard", 0)] == [
        (1000.0, 3.0, 2.5),
        (1005.0, 0.7, 2.5),
    ]
    assert history.scores("door", 0) == []
    sink.close()


def test_a_mark_stays_when_the_event_goes_on_and_when_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history, sink = History(path), HistorySink(HistorySettings(path=path, keep_days=10))
    sink.send(event("new", "first"))
    old = time.time() - 20 * 86400
    for name in ("kept", "gone"):
        sink.send(event("new", name, at=old))
    assert history.mark_normal("kept", True)
    assert not history.mark_normal("nobody", True)
    sink.send(event("end", "kept", at=old))
    sink._cleaned_at = 0.0
    sink.send(event("end", "first"))
    assert [(one["id"], one["is_normal"]) for one in history.events()] == [("first", False), ("kept", True)]
    sink.close()


def test_events_that_a_kill_left_open_are_ended_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    first = HistorySink(HistorySettings(path=path))
    first.send(event("new", "cut", at=5e9))
    first.close()
    second = HistorySink(HistorySettings(path=path))
    second.send(event("new", "next", at=6e9))
    second.close()
    cut = History(path).event("cut")
    assert (cut["ended_at"], cut["ended_by"]) == (5e9 + 1, "stopped")
    assert History(path).event("next")["ended_at"] is None


def test_it_is_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history, outbox = History(path), Outbox(HistorySink(HistorySettings(path=path)))
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(len(history.events(most=1000)))
            if seen[-1]:
                history.mark_normal("0000", True)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(150):
        outbox.put(event("end", f"{number:04d}"))
        outbox.put(ScoreMessage("yard", time.time(), 1.0, 2.0))
    outbox.close(10)
    done.set()
    reader.join()
    assert outbox.facts.lost == outbox.facts.failures == 0
    assert seen == sorted(seen)
    assert len(history.events(most=1000)) == 150
    assert history.event("0000")["is_normal"]


def test_a_file_that_is_no_history_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_text("no database " * 100)
    with pytest.raises(SinkError, match=r"history\.sqlite: cannot be written"):
        HistorySink(HistorySettings(path=path)).send(event("new"))
    with pytest.raises(DataError, match="cannot be read as a history"):
        History(path).events()
