import numpy as np
import pandas as pd
import pytest

from memae import Detector
from memae.errors import DataError
from tests.small_detectors import OTHERS, ROWS, fit


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fit(ROWS)


def shares(detector: Detector, rows: pd.DataFrame, skip_bad: bool = False) -> dict[str, float]:
    found = detector.modality.column_shares(
        detector.artifact, detector.open(rows, skip_bad=skip_bad), skip_bad=skip_bad
    )
    assert found is not None
    return dict(found)


def test_the_shares_of_all_rows_are_those_of_their_errors(detector: Detector) -> None:
    rows = ROWS.iloc[:40].reset_index(drop=True)
    errors = dict.fromkeys(map(str, ROWS.columns), 0.0)
    for why in detector.explanations(rows, list(range(40))):
        for cell in why.cells:
            errors[cell.column] += cell.error
    total = sum(errors.values())
    found = shares(detector, rows)
    assert [*found] == [*errors]
    np.testing.assert_allclose([*found.values()], [error / total for error in errors.values()], rtol=1e-5)


def test_a_column_that_is_far_off_in_few_of_many_rows_has_the_largest_share(detector: Detector) -> None:
    rows = pd.concat([ROWS] * 40, ignore_index=True)  # more than are encoded at a time
    rows.loc[len(rows) - 50 :, ROWS.columns[4]] += 200 * ROWS.iloc[:, 4].std()
    found = shares(detector, rows)
    assert max(found, key=lambda column: found[column]) == ROWS.columns[4]
    assert sum(found.values()) == pytest.approx(1)


def test_bad_rows_are_an_error_or_count_nowhere(detector: Detector) -> None:
    rows = ROWS.iloc[:20].reset_index(drop=True)
    rows.iloc[3, 0] = np.inf
    with pytest.raises(DataError, match="mean radius"):
        shares(detector, rows)
    good = ROWS.iloc[:20].reset_index(drop=True).drop(index=3)
    skipped = shares(detector, rows, skip_bad=True)
    np.testing.assert_allclose([*skipped.values()], [*shares(detector, good).values()], rtol=1e-5)


def test_a_fit_keeps_the_shares_of_the_held_out_normal_rows(detector: Detector) -> None:
    kept = detector.facts["column_shares"]
    assert [*kept] == [str(name) for name in ROWS.columns]
    assert sum(kept.values()) == pytest.approx(1)
    described = detector.modality.describe(detector.artifact).columns
    assert [column["share"] for column in described] == [*kept.values()]


def test_images_have_no_columns() -> None:
    images = fit(OTHERS[:60])
    assert images.modality.column_shares(images.artifact, images.open(OTHERS[:5])) is None
