"""Cells that are numbers or times only to a person: "$1,234.50", "12 %" and dates as text.

A number may have a thousands separator, one currency or a per cent sign, and a minus or brackets where it is negative.
The unit is no part of the number: "12 %" is 12.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from memae.table.cells import NO_VALUE_WORDS, NUMBER

__all__ = ["PERCENT", "DatePart", "Written", "WrittenNumbers", "date_part", "parts_of"]

DatePart: TypeAlias = Literal["", "hour", "weekday"]

PERCENT = "%"
UNITS = ("", PERCENT, "$", "€", "£", "¥", "₹", "CHF", "EUR", "GBP", "JPY", "SEK", "USD", "kr")
SPACES = " \u00a0\u202f"
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NO_UNIT = re.compile(rf"[\d.,'()+\-{SPACES}\t]")
_ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?$"
_ZONE = r"\d\d:?\d*(Z|[+-]\d\d(:?\d\d)?)$"
_CLOCK = r"^([01]\d|2[0-3]):\d\d(:\d\d)?$"


class Written(BaseModel, frozen=True, extra="forbid"):
    """How the numbers of a column of text are written."""

    unit: str = ""
    """"%", a currency, or none; a currency may be left out of a cell, "%" may not."""
    decimal: Literal[".", ","] = "."

    def numbers(self, texts: pa.ChunkedArray) -> pa.ChunkedArray:
        """Texts as float64; null where one is no number that is so written."""
        good = pc.match_substring_regex(texts, self._pattern)
        negative = pc.match_substring_regex(texts, r"[-(]")
        bare = pc.replace_substring_regex(pc.if_else(good, texts, None), rf"[^\d{self.decimal}]", "")
        values = pc.replace_substring(bare, ",", ".").cast(pa.float64())
        return pc.if_else(negative, pc.negate(values), values)

    @property
    def _pattern(self) -> str:
        point, other = re.escape(self.decimal), "," if self.decimal == "." else r"\."
        number = rf"([1-9]\d{{0,2}}([{other}'{SPACES}]\d{{3}})+|\d+)({point}\d+)?"
        unit = re.escape(self.unit)
        if self.unit == PERCENT:
            return rf"^\s*([+-]?{number}\s*{unit}|\({number}\s*{unit}\))\s*$"
        signed = rf"[+-]?\s*({unit})?\s*[+-]?{number}\s*({unit})?"
        return rf"^\s*({signed}|\(({unit})?\s*{number}\s*({unit})?\))\s*$"


class WrittenNumbers:
    """Finds out whether all texts of a column are numbers that are written in one way."""

    def __init__(self) -> None:
        self._unit, self._decimals = "", [".", ","]
        self.example: str | None = None
        """The first that is no plain number; None if there is none yet."""

    def add(self, texts: pa.ChunkedArray) -> None:
        """Adds texts."""
        if not self._decimals:
            return
        different = pc.unique(texts).drop_null()
        different = different.filter(pc.invert(pc.is_in(different, pa.array(NO_VALUE_WORDS))))
        odd = different.filter(pc.invert(pc.match_substring_regex(different, NUMBER)))
        units = {_NO_UNIT.sub("", text) for text in odd[:1].to_pylist()}
        self._unit = self._unit or max(units, default="")
        self._decimals = [
            sign
            for sign in self._decimals
            if self._unit in UNITS
            and pc.all(pc.is_valid(Written(unit=self._unit, decimal=sign).numbers(different)), min_count=0).as_py()
        ]
        if self.example is None and len(odd):
            self.example = odd[0].as_py()

    @property
    def found(self) -> Written | None:
        """How they are written; None if some are no numbers, or all are plain ones.

        Where "1,234" and "1.234" could be either, three digits behind a sign in all cells are thousands.
        """
        if not self._decimals or self.example is None:
            return None
        decimal = "," if len(self._decimals) == 2 and "." in self.example else self._decimals[0]
        return Written(unit=self._unit, decimal=decimal)


def parts_of(arrow_type: pa.DataType) -> tuple[DatePart, ...]:
    """What a time says of a row whenever it is: its hour and weekday; a date has no hour, a time of day no weekday."""
    if pa.types.is_timestamp(arrow_type):
        return ("hour", "weekday")
    if pa.types.is_date(arrow_type):
        return ("weekday",)
    return ("hour",) if pa.types.is_time(arrow_type) else ()


def date_part(column: pa.ChunkedArray, part: DatePart) -> pa.ChunkedArray:
    """The hour "00" to "23" or the weekday of times, in their own time zone; null where text is no such time."""
    if not pa.types.is_temporal(column.type):
        texts = column.cast(pa.string())
        clock = pc.match_substring_regex(texts, _CLOCK)
        if part == "hour" and pc.any(clock).as_py():
            return pc.if_else(clock, pc.utf8_slice_codeunits(texts, 0, 2), None)
        column = _times(texts)
    if pa.types.is_null(column.type) or part not in parts_of(column.type):
        return pa.chunked_array([pa.nulls(len(column), pa.string())])
    if part == "weekday":
        return pc.cast(pc.take(pa.array(WEEKDAYS), pc.day_of_week(column)), pa.string())
    return pc.utf8_lpad(pc.hour(column).cast(pa.string()), 2, "0")


def _times(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = pc.if_else(pc.match_substring_regex(texts, _ISO), texts, None)
    zoned = pc.any(pc.match_substring_regex(pc.utf8_slice_codeunits(texts, 11), _ZONE)).as_py()
    return _cast(texts, pa.timestamp("ns", "UTC" if zoned else None))


def _cast(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Texts as times; null where one is none, such as the 31st of February."""
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        return pa.chunked_array([pa.concat_arrays([_one(text, kind) for text in texts.to_pylist()])])


def _one(text: str | None, kind: pa.DataType) -> pa.Array:
    try:
        return pa.array([text], pa.string()).cast(kind)
    except pa.ArrowInvalid:
        return pa.nulls(1, kind)
