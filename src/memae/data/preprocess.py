"""Samples to float tensors and back: fitted once on the training samples, stored with the model.

Video: clips of grey frames, or of the differences between them.
Images: the source's range becomes [0, 1], then each image may be scaled by its own brightness. Tables: number
columns are scaled, categories become one-hot with one more place for a value that was never seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from torch import Tensor

from memae.data.samples import Images, Samples, Table
from memae.errors import DataError

__all__ = [
    "Cell",
    "ClipInput",
    "Column",
    "ImagePreprocess",
    "ImageScale",
    "NumberScale",
    "Preprocess",
    "TablePreprocess",
    "VideoPreprocess",
    "column_kind",
    "fit_preprocess",
    "load_preprocess",
]

ClipInput = Literal["frames", "differences"]
ImageScale = Literal["none", "unit", "centred"]
NumberScale = Literal["standard", "minmax", "log"]
ColumnKind = Literal["number", "category", "boolean"]

FAR = 1e12  # encoded values are cut here, so that float32 still holds their squares and each score is finite
LARGEST_LOG = 709.0  # of a float64
PIECE_BYTES = 256 << 20  # of float32 pixels looked at at a time
MAX_CATEGORIES = 1000  # beyond this a text column is a name or free text, not a category


class _Fitted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImagePreprocess(_Fitted):
    """Pixels (S, C, H, W) to x = (pixels - low) / (high - low), then scaled image by image.

    scale "unit" divides each image by its root mean square, "centred" subtracts its mean first: brightness and
    contrast then carry no meaning, and a faint anomaly weighs as much as a bright one.
    """

    kind: Literal["image"] = "image"
    channels: int
    height: int
    width: int
    low: float
    high: float
    scale: ImageScale
    floor: float = Field(description="least divisor of one image, so that a blank one stays finite")

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one encoded sample."""
        return self.channels, self.height, self.width

    @classmethod
    def fit(cls, images: Images, scale: ImageScale, rows: np.ndarray | None = None) -> ImagePreprocess:
        """Learns the value range from training images: 0 to 255 for uint8, least to greatest value else.

        Args:
            images: those to train on, and maybe others.
            scale: of each image by its own brightness.
            rows: (S,) which of the images to train on; None is all.

        Raises:
            DataError: every pixel is the same.
        """
        pixels = images.pixels
        rows = np.arange(len(pixels)) if rows is None else rows
        if pixels.dtype == np.uint8:
            low, high = 0.0, 255.0
            first = pixels[rows[0]]
            constant = bool((first == first.flat[0]).all()) and all(
                (part == first.flat[0]).all() for part in _pieces(pixels, rows)
            )
            least = float(first.flat[0])
        else:
            low, high = np.inf, -np.inf
            for part in _pieces(pixels, rows):
                low, high = min(low, float(part.min())), max(high, float(part.max()))
            constant, least = low == high, low
        if constant:
            raise DataError(
                f"{images.origin}: every pixel is {least:g}; a model of constant images has nothing to learn"
            )
        _, channels, height, width = pixels.shape
        bare = cls(channels=channels, height=height, width=width, low=low, high=high, scale=scale, floor=0.0)
        some = _pieces(pixels, rows[:: max(1, len(rows) // 10_000)])
        spread = torch.cat([bare._spread(bare._ranged(part))[1] for part in some])
        return bare.model_copy(update={"floor": max(1e-3, 0.05 * float(spread.median()))})

    def encode(self, samples: Samples) -> Tensor:
        """(S, C, H, W) float32.

        Raises:
            DataError: no images, another size or channel count, or a NaN or infinite pixel.
        """
        if not isinstance(samples, Images):
            raise DataError(f"{samples.origin}: the model was trained on images and this is a table")
        pixels = samples.pixels
        if pixels.shape[1:] != self.shape:
            raise DataError(
                f"{samples.origin}: images of shape {_shape(pixels.shape[1:])} (channels x height x width), but "
                f"the model was trained on {_shape(self.shape)}; resize or convert them"
            )
        _check_finite(samples)
        centred, spread = self._spread(self._ranged(pixels))
        return centred / spread.clamp_min(self.floor) if self.scale != "none" else centred

    def _ranged(self, pixels: np.ndarray) -> Tensor:
        # A copy of its own, with the strides written anew: numpy gives a lone channel any stride it likes, torch
        # takes that for channels-last, and its CPU convolutions then write out of bounds (seen with torch 2.13).
        writable = np.require(pixels, requirements="W")  # torch warns about any other, such as an idx file's
        x = torch.from_numpy(writable).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        return x.sub_(self.low).div_(self.high - self.low).clamp_(-FAR, FAR)

    def _spread(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.scale == "centred":
            x = x - x.mean(dim=(1, 2, 3), keepdim=True)
        return x, x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


class VideoPreprocess(_Fitted):
    """Clips of grey uint8 frames to x in [-1, 1] (as the released code), or to differences of consecutive frames.

    A difference is of two such frames, times `gain`; the first one of a clip, which has no frame before it, takes that
    of the second. Where the camera stands still, only what moves is left.
    """

    kind: Literal["video"] = "video"
    clip_length: int
    height: int
    width: int
    input: ClipInput
    gain: float = 4.0

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, T, H, W) of one encoded clip."""
        return 1, self.clip_length, self.height, self.width

    def encode_clips(self, pixels: Tensor) -> Tensor:
        """(B, T, H, W) uint8 to (B, 1, T, H, W) float32, on the device of the pixels."""
        x = pixels.float().div_(127.5).sub_(1.0)
        if self.input == "differences":
            moved = x.diff(dim=1).mul_(self.gain)
            x = torch.cat([moved[:, :1], moved], dim=1)
        # strides written anew, for the reason that ImagePreprocess gives
        return x.unsqueeze(1).to(memory_format=torch.contiguous_format, copy=True)


class Column(_Fitted):
    """One column of the fitted schema and its place in the encoded row."""

    name: str
    kind: ColumnKind
    centre: float = 0.0
    spread: float = 1.0
    log: bool = False
    """A number is taken as sign(x) log(1 + |x|) before it is scaled: bytes, amounts and counts have heavy tails."""
    categories: tuple[str, ...] = ()

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """(S,) numbers in their own units to what the network sees."""
        with np.errstate(over="ignore"):
            scaled: np.ndarray = (_log(values) if self.log else values) - self.centre
            return np.clip(scaled / self.spread, -FAR, FAR)

    def own_units(self, scaled: np.ndarray) -> np.ndarray:
        """The inverse of `scaled`; a logarithm beyond float64 becomes its largest number."""
        values: np.ndarray = scaled * self.spread + self.centre
        return np.sign(values) * np.expm1(np.minimum(np.abs(values), LARGEST_LOG)) if self.log else values

    @property
    def width(self) -> int:
        """Encoded features: 1 for a number, the categories and the place for unseen ones else."""
        return 1 if self.kind == "number" else len(self.categories) + 1


@dataclass(frozen=True)
class Cell:
    """One column of one row, as it was and as the model expected it, in the column's own units."""

    column: str
    seen: float | str
    expected: float | str
    error: float
    """This column's share of the sample's score: these add up to the score."""


class TablePreprocess(_Fitted):
    """Rows to (S, features): scaled numbers, one-hot categories, column by column in the fitted order."""

    kind: Literal["table"] = "table"
    columns: tuple[Column, ...]
    dropped: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(features,) of one encoded row."""
        return (sum(column.width for column in self.columns),)

    @classmethod
    def fit(cls, table: Table, scale: NumberScale, dropped: tuple[str, ...] = ()) -> TablePreprocess:
        """Learns kinds, scales and categories from training rows.

        Raises:
            DataError: no column left, a column of dates or free text, or a value that is missing or infinite.
        """
        names = table.columns.column_names
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise DataError(f"{table.origin}: column names must differ; given twice: {', '.join(twice)}")
        if not names:
            raise DataError(f"{table.origin}: no columns are left to learn from; drop fewer")
        return cls(
            columns=tuple(_fit_column(table, name, scale) for name in names),
            dropped=dropped,
        )

    def encode(self, samples: Samples) -> Tensor:
        """(S, features) float32.

        Raises:
            DataError: no table, a missing or unknown column, text in a number column, a missing value.
        """
        if not isinstance(samples, Table):
            raise DataError(f"{samples.origin}: the model was trained on a table and these are images")
        self._check_names(samples)
        x = np.zeros((len(samples), self.shape[0]), dtype=np.float32)
        start = 0
        for column in self.columns:
            part = x[:, start : start + column.width]
            if column.kind == "number":
                part[:, 0] = column.scaled(_numbers(samples, column.name))
            else:
                index = pc.index_in(_texts(samples, column.name, column.kind), pa.array(column.categories))
                place = pc.fill_null(index, len(column.categories)).to_numpy()
                part[np.arange(len(part)), place] = 1.0
            start += column.width
        return torch.from_numpy(x)

    def fold(self, features: Tensor) -> Tensor:
        """Sums (S, features) over the features of each column: (S, columns)."""
        widths = [column.width for column in self.columns]
        return torch.stack([part.sum(dim=1) for part in torch.split(features, widths, dim=1)], dim=1)

    def readable(self, features: Tensor) -> list[list[float | str]]:
        """Encoded rows (S, features) in the columns' own units: S lists of one value per column."""
        widths = [column.width for column in self.columns]
        values: list[list[float | str]] = []
        for column, part in zip(self.columns, torch.split(features.double(), widths, dim=1), strict=True):
            if column.kind == "number":
                values.append(column.own_units(part[:, 0].numpy()).tolist())
            else:
                names = (*column.categories, "(unseen)")
                values.append([names[i] for i in part.argmax(dim=1).tolist()])
        return [list(row) for row in zip(*values, strict=True)]

    def cells(self, samples: Samples, row: int, expected: Tensor, errors: Tensor) -> list[Cell]:
        """One row's columns, most surprising first; `expected` and `errors` (features,) of that row."""
        assert isinstance(samples, Table)
        wanted = self.readable(expected[None])[0]
        shares = self.fold(errors[None])[0].tolist()
        cells = []
        for column, want, share in zip(self.columns, wanted, shares, strict=True):
            seen = samples.columns[column.name][row].as_py()
            text = str(seen).lower() if column.kind == "boolean" else seen
            cells.append(Cell(column.name, float(text) if column.kind == "number" else str(text), want, share))
        return sorted(cells, key=lambda cell: -cell.error)

    def _check_names(self, table: Table) -> None:
        known, given = [column.name for column in self.columns], table.columns.column_names
        missing = [name for name in known if name not in given]
        extra = [name for name in given if name not in known and name not in self.dropped]
        if missing:
            cure = f"; renamed? unknown here: {_some(extra)}" if extra else "; add it under that name"
            raise DataError(f"{table.origin}: no column {_some(missing)}, which the model was trained on{cure}")
        if extra:
            raise DataError(
                f"{table.origin}: column {_some(extra)} was not there in training; leave it out with "
                f"--drop {extra[0]}"
            )
        if len(set(given)) < len(given):
            twice = sorted({name for name in given if given.count(name) > 1})
            raise DataError(f"{table.origin}: column names must differ; given twice: {', '.join(twice)}")


Preprocess = Annotated[ImagePreprocess | TablePreprocess | VideoPreprocess, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[ImagePreprocess | TablePreprocess | VideoPreprocess] = TypeAdapter(Preprocess)


def fit_preprocess(
    samples: Samples, *, image_scale: ImageScale, number_scale: NumberScale, dropped: tuple[str, ...] = ()
) -> ImagePreprocess | TablePreprocess:
    """The preprocessing fitted on training samples of either kind."""
    if isinstance(samples, Images):
        _check_finite(samples)
        return ImagePreprocess.fit(samples, image_scale)
    assert isinstance(samples, Table)  # video is fitted to nothing
    return TablePreprocess.fit(samples, number_scale, dropped)


def load_preprocess(stored: Any) -> ImagePreprocess | TablePreprocess | VideoPreprocess:
    """The preprocessing behind the plain values of `model_dump`; pydantic's ValidationError if they do not fit."""
    return _ADAPTER.validate_python(stored)


def column_kind(kind: pa.DataType) -> ColumnKind | None:
    """How a column of an Arrow type is read; None for a type that has no rule (dates, lists, bytes)."""
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_dictionary(kind):
        return column_kind(kind.value_type) and "category"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "category"
    return None


def _fit_column(table: Table, name: str, scale: NumberScale) -> Column:
    arrow_type = table.columns.schema.field(name).type
    kind = column_kind(arrow_type)
    if kind is None:
        what = "is empty" if pa.types.is_null(arrow_type) else f"holds {arrow_type}"
        raise DataError(
            f"{table.origin}: column {name!r} {what}, which has no meaning to the model; turn it into numbers or "
            f"categories, or leave it out with --drop {name}"
        )
    if kind == "number":
        log = scale == "log"
        values = _log(_numbers(table, name)) if log else _numbers(table, name)
        with np.errstate(over="ignore", invalid="ignore"):
            if scale == "minmax":
                centre, spread = float(values.min()), float(values.max() - values.min())
            else:
                centre, spread = float(values.mean()), float(values.std())
        if not np.isfinite(spread):
            raise DataError(
                f"{table.origin}: column {name!r} holds numbers up to {np.abs(values).max():.3g}, too large to "
                f"scale; mend them (do they stand for a missing value?) or leave it out with --drop {name}"
            )
        # a constant column, or one that only rounds: its own size is the natural unit of a change
        if spread <= 1e-9 * max(1.0, abs(centre)):
            spread = max(1.0, abs(centre))
        return Column(name=name, kind=kind, centre=centre, spread=spread, log=log)
    categories = sorted(pc.unique(_texts(table, name, kind)).to_pylist())
    if len(categories) > MAX_CATEGORIES:
        raise DataError(
            f"{table.origin}: column {name!r} has {len(categories):,} different texts in {len(table):,} rows, so "
            f"it is a name or free text and no category; leave it out with --drop {name}"
        )
    return Column(name=name, kind=kind, categories=tuple(categories))


def _log(values: np.ndarray) -> np.ndarray:
    logarithm: np.ndarray = np.sign(values) * np.log1p(np.abs(values))
    return logarithm


def _numbers(table: Table, name: str) -> np.ndarray:
    column = table.columns[name]
    _check_present(table, name, column)
    if column_kind(column.type) != "number":
        raise DataError(_not_a_number(table, name, column))
    values: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy()
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(
            f"{table.origin}: column {name!r} holds {values[row]} at row {table.keys[row]}; mend or remove it"
        )
    return values


def _not_a_number(table: Table, name: str, column: pa.ChunkedArray) -> str:
    cure = "the model was trained on numbers there; mend the cell, or map the words to numbers"
    if column_kind(column.type) == "category":
        for row, text in enumerate(column.to_pylist()):
            try:
                float(text)
            except ValueError:
                return f"{table.origin}: column {name!r} holds {text!r} at row {table.keys[row]}; {cure}"
        cure = "the numbers are stored as text; convert the column to numbers"
    return f"{table.origin}: column {name!r} holds {column.type}; {cure}"


def _texts(table: Table, name: str, kind: ColumnKind) -> pa.ChunkedArray:
    column = table.columns[name]
    _check_present(table, name, column)
    given = column_kind(column.type)
    if kind == "boolean" and given != "boolean":
        raise DataError(
            f"{table.origin}: column {name!r} holds {column.type}, but the model was trained on true and false"
        )
    if given is None:
        raise DataError(
            f"{table.origin}: column {name!r} holds {column.type}, but the model was trained on categories"
        )
    return column.cast(pa.string())


def _check_present(table: Table, name: str, column: pa.ChunkedArray) -> None:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise DataError(
            f"{table.origin}: column {name!r} has no value at row {table.keys[row]} ({column.null_count:,} "
            f"missing in all); fill them, remove the rows, or --drop {name}"
        )


def _pieces(pixels: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """These rows of pixels (S, C, H, W), a few at a time: they may lie on the disk."""
    size = max(1, PIECE_BYTES // (4 * pixels[0].size))
    for start in range(0, len(rows), size):
        yield pixels[rows[start : start + size]]


def _check_finite(images: Images) -> None:
    if images.pixels.dtype == np.uint8:
        return
    finite = np.isfinite(images.pixels).reshape(len(images), -1).all(axis=1)
    if not finite.all():
        key = images.keys[int(np.argmin(finite))]
        raise DataError(f"{images.origin}: image {key} holds NaN or infinite pixels; mend or remove it")


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
