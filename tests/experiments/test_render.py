import json
import re
from pathlib import Path
from typing import Any

import pytest

from experiments import data, render
from experiments.data import DATA, ArrayData
from experiments.markdown import markdown
from experiments.protocols.images import judge
from experiments.records import RESULTS
from experiments.render import by_part, comparison, demo_table, overview, rendered
from experiments.summary import Summary, summarise
from experiments.tables import TABLES, Block, all_tables
from tests.experiments.test_summary import images, write


def block(table: str, name: str) -> Block:
    return next(block for block in all_tables()[table].blocks if block.data == name)


def read(text: str) -> dict[str, Any]:
    """{first cell: {title: cell}} of a Markdown table."""
    titles, rule, *rows = [line.strip("| ").split(" | ") for line in text.splitlines()]
    assert set("".join(rule)) <= set("-|")
    assert all(len(row) == len(titles) for row in rows)
    return {row[0]: dict(zip(titles, row, strict=True)) for row in rows}


def shown(root: Path, table: str, name: str) -> dict[str, Any]:
    return read(comparison(block(table, name), TABLES[table].rows, summarise(root)[table]))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, value in enumerate((0.80, 0.82, 0.87)):
        write(tmp_path, "mnist", "memae", seed, images(value), fit=600.0, score=0.5, stored=100)
    write(tmp_path, "mnist", "1-nn-l2", 0, images(0.9), fit=0.01, score=0.0001, stored=6000)
    write(tmp_path, "mnist", "kde", 0, images(0.9, classes="82"))
    kdd = {"paper": {"f1": 0.97, "precision": 0.96, "recall": 0.98, "auroc": 0.99}, "distinct": {"f1": 0.7}}
    write(tmp_path, "kddcup99", "memae", 0, {"all": kdd})
    served = {"served": {"auroc": 0.65, "auroc_macro": 0.91}, "served min-max": {"auroc": 0.9}}
    write(tmp_path, "ped2", "background-difference", 0, {"all": served}, stored=None)
    return tmp_path


def test_ours_stands_beside_the_reported_number_with_the_difference(root: Path) -> None:
    found = shown(root, "table1", "mnist")
    ours = found["**MemAE**, our default"]
    half = Summary.of([0.70, 0.72, 0.77]).high - 0.73
    assert ours["reported"] == ".9751"
    assert ours["AUROC, paper's mix"] == f".7300 ± {half:.4f}".replace("± 0.", "± .")
    assert ours["difference"] == "-.2451"
    assert ours["AUROC, full test"].startswith(".8750 ± ")
    assert ours["seeds"] == "3"
    one = found["1-NN look-up, L2"]
    assert (one["reported"], one["difference"]) == ("–", "–")
    assert one["AUROC, paper's mix"] == ".8000"  # one seed has no interval
    assert one["seeds"] == "1"


def test_what_a_method_stores_and_takes_is_shown(root: Path) -> None:
    found = shown(root, "table1", "mnist")
    cost = ("stored", "µs a sample", "training, one seed")
    # ten classes of ten minutes
    assert [found["**MemAE**, our default"][title] for title in cost] == ["100", "5,000", "1.7 h"]
    assert [found["1-NN look-up, L2"][title] for title in cost] == ["6,000", "1.0", "< 1 s"]


def test_a_cell_that_is_not_there_is_a_dash(root: Path) -> None:
    found = shown(root, "table1", "mnist")
    assert list(found) == [row.title for row in TABLES["table1"].rows]  # every row, in the order of the table
    for title in ("KDE", "PixelCNN"):  # of KDE only two classes are there
        row = found[title]
        assert row.pop("reported").endswith("?")
        assert row.pop("method") == title
        assert set(row.values()) == {"–"}


def test_unconfirmed_numbers_are_marked_and_those_of_the_paper_are_not(root: Path) -> None:
    for table, name in (("table1", "mnist"), ("table2", "ped2")):
        for row in TABLES[table].rows:
            cell = shown(root, table, name)[row.title]["reported"]
            claim = row.reported.get((name, "auroc"))
            assert cell.endswith("?") == (claim is not None and claim.status == "unconfirmed")
            assert claim is None or float(cell.removesuffix("?")) == claim.value


def test_further_reported_metrics_stand_in_brackets(root: Path) -> None:
    found = shown(root, "table3", "kddcup99")["**MemAE**, our default"]
    assert (found["reported"], found["F1"], found["difference"]) == (".9641", ".9700", "+.0059")
    assert found["precision (reported)"] == ".9600 (.9627)"
    assert found["recall (reported)"] == ".9800 (.9655)"
    assert found["AUROC"] == ".9900"
    assert found["F1, duplicates removed"] == ".7000"
    assert shown(root, "table3", "kddcup99")["DCN"]["precision (reported)"] == "– (.7696)"


def test_a_block_that_nobody_reports_on_has_no_column_for_it(root: Path) -> None:
    found = shown(root, "table3", "kddcup99-attacks")["**MemAE**, our default"]
    assert not {"reported", "difference"} & found.keys()
    assert {*shown(root, "table4", "mnist")} == {row.title for row in TABLES["table4"].rows}


def test_video_shows_the_data_that_only_others_have_and_rows_that_are_reported_only(root: Path) -> None:
    found = shown(root, "table2", "ped2")
    assert found["TSC"]["Avenue, reported"] == ".806"
    assert found["TSC"]["ShanghaiTech, reported"] == ".679"
    row = found["mean background difference"]
    assert (row["as served"], row["as served, macro"], row["as served, min-max"]) == (".6500", ".9100", ".9000")
    assert (row["paper's protocol"], row["stored"], row["seeds"]) == ("–", "–", "1")


def test_parts_stand_beside_each_other(root: Path) -> None:
    found = read(by_part(block("table1", "mnist"), TABLES["table1"].rows, summarise(root)["table1"]))
    assert {*found} == {"**MemAE**, our default", "1-NN look-up, L2", "KDE"}
    assert found["KDE"]["8"] == ".9800"
    assert found["KDE"]["7"] == "–"
    assert found["**MemAE**, our default"]["1"] == ".8400"


def test_a_data_set_of_ones_own_can_be_rendered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist = DATA["mnist"]
    assert isinstance(mnist, ArrayData)
    monkeypatch.setitem(data.DATA, "mine", ArrayData(mnist.split, judge))
    write(root, "mine", "memae", 0, {"all": {"full": {"auroc": 0.9, "average_precision": 0.8}}})
    found = read(comparison(block("others", "mine"), all_tables()["others"].rows, summarise(root)["others"]))
    assert found["**MemAE**, our default"]["AUROC"] == ".9000"
    assert found["**MemAE**, our default"]["AP"] == ".8000"


def test_the_overview_takes_figures_from_several_tables(root: Path) -> None:
    columns = (("table1", "mnist", "full", "auroc", "MNIST"), ("table3", "kddcup99", "paper", "f1", "F1"))
    rows = (("memae", "ours"), ("1-nn-l2", "look-up"), ("kde", "KDE"))
    found = read(overview(summarise(root), columns, rows))
    assert {*found} == {"ours", "look-up"}  # of KDE there is no whole cell
    assert found["ours"]["F1"] == ".9700"
    assert found["look-up"] == {"method": "look-up", "MNIST": ".9450", "F1": "–"}
    assert {*read(overview(summarise(root), columns, rows, empty=True))} == {"ours", "look-up", "KDE"}


def test_a_markdown_table() -> None:
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_the_table_of_the_demo_is_the_mean_of_its_runs(tmp_path: Path) -> None:
    for seed, auroc in enumerate((0.9, 0.94)):
        part = {
            "memae": auroc,
            "autoencoder": auroc - 0.1,
            "untrained": 0.5,
            "false_alarm_rate": {"wanted": 0.05, "measured": 0.04},
        }
        (tmp_path / f"seed-{seed}.json").write_text(json.dumps({"images": part, "table": part}))
    found = demo_table(tmp_path)
    assert "mean of 2 seeds" in found
    assert "| **MemAE**, AUROC | .9200 ± .2541 | .9200 ± .2541 |" in found
    assert "| untrained network, AUROC | .5000 ± .0000 | .5000 ± .0000 |" in found
    assert "wanted: at most 0.05" in found
    assert demo_table(tmp_path / "none") == "No committed runs."


def test_the_committed_pages_hold_the_tables_of_the_committed_results() -> None:
    for path, text in rendered().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: run  make tables"


def test_every_marker_of_a_page_is_filled_and_every_table_has_its_place() -> None:
    blocks = render._blocks(summarise(RESULTS / "cells"))
    marked = {name for path in rendered() for name in re.findall(r"<!-- ([\w-]+):begin -->", path.read_text())}
    assert marked == {*blocks}
    for path in rendered():
        text = path.read_text()
        assert re.findall(r"<!-- ([\w-]+):begin -->", text) == re.findall(r"<!-- ([\w-]+):end -->", text)


def test_what_stands_outside_the_markers_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    page = (
        "before\n<!-- demo:begin -->\n{}<!-- demo:end -->\nbetween <!-- nobody:begin -->\nx\n<!-- nobody:end -->\n"
    )
    (tmp_path / "README.md").write_text(page.format("old\n\n| x |\n"))
    monkeypatch.setattr(render, "ROOT", tmp_path)
    assert render.rendered() == {tmp_path / "README.md": page.format(demo_table() + "\n")}
