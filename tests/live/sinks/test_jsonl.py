"""Events as lines in files that are cut, filled and grown old."""

import json
import os
import resource
import time
from pathlib import Path

import pytest

from memae.live.sinks import SinkError
from memae.live.sinks.jsonl import JsonlSettings, JsonlSink
from tests.live.sinks.small_messages import event


def lines(folder: Path) -> list[dict[str, object]]:
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_each_message_is_one_line_with_all_its_facts(tmp_path: Path) -> None:
    sink = JsonlSink(JsonlSettings(folder=tmp_path / "new"))
    sent = [event("new", still=Path("a/b.jpg")), event("end")]
    for message in sent:
        sink.send(message)
    found = lines(tmp_path / "new")
    assert [one["type"] for one in found] == ["new", "end"]
    assert found[0]["still"] == "a/b.jpg"
    assert found[0]["boxes"] == [[0.1, 0.2, 0.3, 0.6]]
    assert found[1]["ended_by"] == "quiet"
    assert found[1]["ended_at"] == sent[1].ended_at


def test_a_line_that_a_kill_has_cut_spoils_no_other(tmp_path: Path) -> None:
    sink = JsonlSink(JsonlSettings(folder=tmp_path))
    sink.send(event("new"))
    (file,) = tmp_path.iterdir()
    with file.open("a") as torn:
        torn.write('{"type": "en')
    sink.send(event("end"))
    first, cut, last = file.read_text().splitlines()
    assert json.loads(first)["type"] == "new"
    assert cut == '{"type": "en'
    assert json.loads(last)["type"] == "end"


def test_where_a_file_can_grow_no_more_nothing_of_the_line_stays(tmp_path: Path) -> None:
    sink = JsonlSink(JsonlSettings(folder=tmp_path))
    sink.send(event("new"))
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(SinkError, match="cannot be written"):
            sink.send(event("end"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    sink.send(event("end"))
    assert [one["type"] for one in lines(tmp_path)] == ["new", "end"]


def test_old_files_and_those_beyond_the_size_are_deleted(tmp_path: Path) -> None:
    old = tmp_path / "events-2026-01-01-00.jsonl"
    old.write_text("{}\n")
    os.utime(old, (time.time() - 100 * 86400,) * 2)
    sink = JsonlSink(JsonlSettings(folder=tmp_path, keep_days=90, keep_mib=0.02))
    for number in range(200):
        sink.send(event("new", f"{number:04d}"))
    assert not old.exists()
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert sum(sizes) <= 0.02 * 2**20
    assert sum(sizes) > 0.015 * 2**20
    assert lines(tmp_path)[-1]["id"] == "0199"
