import pytest

from experiments import data, tables
from experiments.data import DATA, ArrayData
from experiments.methods import METHODS
from experiments.protocols import images
from experiments.tables import TABLES, Reported, all_tables

# Table 1 to 4 of the paper, method by method
REPORTED = {
    ("table1", "memae"): {("mnist", "auroc"): 0.9751, ("cifar10", "auroc"): 0.6088},
    ("table1", "memae-nonspar"): {("mnist", "auroc"): 0.9725, ("cifar10", "auroc"): 0.6058},
    ("table1", "autoencoder"): {("mnist", "auroc"): 0.9619, ("cifar10", "auroc"): 0.5706},
    ("table2", "memae"): {("ped2", "auroc"): 0.941, ("avenue", "auroc"): 0.833, ("shanghaitech", "auroc"): 0.712},
    ("table3", "memae"): {
        ("kddcup99", "precision"): 0.9627,
        ("kddcup99", "recall"): 0.9655,
        ("kddcup99", "f1"): 0.9641,
    },
    ("table3", "memae-nonspar"): {("kddcup99", "f1"): 0.9355},
    ("table4", "autoencoder"): {("ped2", "auroc"): 0.917},
    ("table4", "memae-no-entropy"): {("ped2", "auroc"): 0.9372},
}


def row(table: str, method: str) -> tables.Row:
    return next(row for row in TABLES[table].rows if row.method == method)


@pytest.mark.parametrize(("table", "method"), REPORTED)
def test_the_numbers_of_the_paper(table: str, method: str) -> None:
    found = row(table, method).reported
    assert {key: value.value for key, value in found.items()} == REPORTED[table, method]
    assert {value.status for value in found.values()} == {"paper"}


def test_what_was_recalled_only_is_marked() -> None:
    unconfirmed = ["one-class-svm", "kde", "vae", "pixelcnn", "dsebm-e", "dsebm-r"]
    for method in unconfirmed:
        assert {value.status for value in row("table1", method).reported.values()} == {"unconfirmed"}
    assert row("table1", "kde").reported["mnist", "auroc"] == Reported(0.8116, "unconfirmed")
    statuses = {
        r.title: {v.status for v in r.reported.values()} for r in TABLES["table2"].rows if r.method is None
    }
    assert statuses.pop("TSC") == statuses.pop("StackRNN") == {"paper"}
    assert set().union(*statuses.values()) == {"unconfirmed"}


@pytest.mark.parametrize("table", ["table1", "table3"])
def test_every_row_has_a_method_of_its_own(table: str) -> None:
    methods = [row.method for row in TABLES[table].rows]
    assert len(set(methods)) == len(methods)
    assert set(methods) <= METHODS.keys()


@pytest.mark.parametrize("table", list(TABLES))
def test_every_table_can_be_computed(table: str) -> None:
    found = TABLES[table]
    assert {block.data for block in found.blocks} <= DATA.keys()
    cells = [(block.data, method) for block, _, method in found.cells()]
    assert len(set(cells)) == len(cells)
    for block in found.blocks:
        # a row that is computed nowhere in its table is a slip of the pen
        assert {row.method for row in found.rows if row.method} & {m for d, m in cells if d == block.data}
    computed = {method for _, method in cells}
    assert {row.method for row in found.rows if row.method} == computed


def test_the_three_readings_of_the_paper_are_rows_of_their_own() -> None:
    for table in ("table1", "table2", "table3"):
        methods = [row.method for row in TABLES[table].rows]
        assert {"memae", "memae-paper", "memae-released", "untrained"} <= set(methods)
        # the trivial rows stand at the end, behind ours
        assert methods.index("untrained") > methods.index("memae-released") > methods.index("memae")


def test_the_papers_runs_are_twenty_on_kddcup_and_three_seeds_elsewhere() -> None:
    assert {name: table.seeds for name, table in TABLES.items()} == {
        "table1": 3,
        "table2": 3,
        "table3": 20,
        "table4": 3,
        "table5": 3,
        "table6": 3,
    }


def test_what_stands_in_no_table_is_in_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all_tables()["others"].blocks == ()
    monkeypatch.setitem(data.DATA, "mine", ArrayData(lambda part, seed: images.mnist(1, seed), images.judge))
    monkeypatch.setitem(METHODS, "my-method", METHODS["pca-3"])
    found = all_tables()["others"]
    assert [block.data for block in found.blocks] == ["mine"]
    methods = [method for *_, method in found.cells()]
    assert methods[-1] == "my-method"
    assert {"memae", "1-nn-l2", "isolation-forest"} <= set(methods)
    assert all(not row.reported for row in found.rows)
    assert [row.method for row in found.rows if row.slow] == ["pixelcnn"]
