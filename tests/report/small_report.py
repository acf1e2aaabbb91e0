"""Detectors and rows that the tests of reports share; the names in the rows try to become markup."""

from functools import cache

import numpy as np
import pandas as pd

from memae import Detector
from tests.small_detectors import MALIGNANT, ONES, ROWS, fit

NASTY = "<script>alert(1)</script>"
CITY = '"><img src=x onerror=alert(2)>'


def _named(rows: pd.DataFrame, city: str) -> pd.DataFrame:
    cities = np.where(np.arange(len(rows)) % 2 == 0, city, "<b>plain</b>")
    return rows.rename(columns={rows.columns[1]: NASTY}).assign(city=cities).reset_index(drop=True)


NORMAL_ROWS = _named(ROWS, "normal")
TABLE_ROWS = pd.concat([NORMAL_ROWS[:100], _named(MALIGNANT, CITY)], ignore_index=True)


@cache
def table_detector() -> Detector:
    return fit(NORMAL_ROWS)


@cache
def image_detector() -> Detector:
    return fit(ONES)
