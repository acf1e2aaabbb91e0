from pathlib import Path

import pandas as pd

from memae.report.page import scan, write_report
from memae.report.page.columns import MOST, ColumnShares
from memae.types import Cell
from tests.report.small_report import image_detector, table_detector
from tests.small_detectors import OTHERS, ROWS


def cells(**errors: float) -> list[Cell]:
    return [Cell(column, 1.0, 2.0, error) for column, error in errors.items()]


def test_shares_are_means_over_the_rows_and_the_largest_is_counted() -> None:
    shares = ColumnShares()
    shares.add(cells(a=3.0, b=1.0))
    shares.add(cells(b=20.0, a=0.0))
    shares.add(cells(a=0.0, b=0.0))  # says nothing
    made = str(shares.table())
    assert "mean over the 2 flagged rows" in made
    # b: (25 % + 100 %) / 2; a: (75 % + 0 %) / 2
    assert made.index("62.5%") < made.index("37.5%")
    assert made.count("<td>1</td>") == 2


def test_no_row_gives_no_table_and_many_columns_the_largest() -> None:
    assert ColumnShares().table() is None
    shares = ColumnShares()
    shares.add(cells(**{f"c{number}": 100.0 - number for number in range(MOST + 5)}))
    made = str(shares.table())
    assert "5 more columns have smaller shares" in made
    assert "c0" in made and f"c{MOST + 4}" not in made


def test_a_column_that_is_far_off_has_the_largest_share_in_the_report(tmp_path: Path) -> None:
    detector = table_detector()
    rows = ROWS.reset_index(drop=True).copy()
    wrong = str(rows.columns[3])
    rows.loc[:9, wrong] += 50 * rows[wrong].std()
    named = rows.rename(columns={rows.columns[1]: "<script>alert(1)</script>"}).assign(city="normal")
    source = detector.open(pd.DataFrame(named))
    write_report(scan(detector, source, most=20), detector, source, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    table = page[page.index("flagged rows that are shown") :]
    assert table.index(wrong) == min(table.index(str(name)) for name in ROWS.columns if name != ROWS.columns[1])


def test_images_have_no_columns(tmp_path: Path) -> None:
    detector = image_detector()
    source = detector.open(OTHERS[:10])
    write_report(scan(detector, source, most=5), detector, source, tmp_path / "r.html")
    assert "flagged rows that are shown" not in (tmp_path / "r.html").read_text(encoding="utf-8")
