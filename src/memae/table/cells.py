"""Interprets the text of a cell: a missing value, a number, or a word among numbers, which is a mistake."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["FEW", "MAX_CATEGORIES", "NO_VALUE_WORDS", "NUMBER", "SPACES", "WordsAmongNumbers"]

MAX_CATEGORIES = 1000  # beyond this a text column is a name or free text, not a category
FEW = 20  # different whole numbers, at most, of a column that may hold codes
NUMBERS_PER_WORD = 9
# How files say that a number is missing: what pandas and Arrow know, and "?" of the UCI repository.
NO_VALUE_WORDS = (
    "", "?", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL",
    "None", "NaN", "n/a", "nan", "null",
)  # fmt: skip
SPACES = " \t"  # that Arrow allows around a number
NUMBER = rf"^[{SPACES}]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[{SPACES}]*$"


class WordsAmongNumbers:
    """Finds a word among texts that are otherwise numbers, which is probably a typing mistake.

    Nine in ten of the different texts must be numbers, and more than twenty of them; else these are codes.
    """

    def __init__(self) -> None:
        self._words: set[str] = set()
        self._numbers: set[str] = set()

    def add(self, texts: pa.ChunkedArray) -> None:
        """Adds texts that are not missing; stops remembering once there are too many words."""
        if len(self._words) > MAX_CATEGORIES:
            return
        different = pc.unique(texts)
        number = pc.match_substring_regex(different, NUMBER)
        self._words.update(different.filter(pc.invert(number)).to_pylist())
        if len(self._numbers) < NUMBERS_PER_WORD * MAX_CATEGORIES:
            self._numbers.update(different.filter(number).to_pylist())

    @property
    def first(self) -> str | None:
        """The first of the words in the order of the alphabet; None if there is no such mistake."""
        words = sorted(word for word in self._words if word.strip() not in NO_VALUE_WORDS)
        few = len(words) <= MAX_CATEGORIES and len(self._numbers) >= NUMBERS_PER_WORD * len(words)
        return words[0] if words and few and len(self._numbers) > FEW else None
