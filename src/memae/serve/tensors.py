"""Tensors of the Open Inference Protocol: from JSON or binary data to arrays, and back.

Binary data is little-endian, row by row without gaps; a text is its length as 4 bytes, then its UTF-8 bytes. See the
protocol (https://github.com/kserve/open-inference-protocol) and Triton's extension "binary_tensor_data".
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, Field

from memae.errors import DataError, printable, shortened

__all__ = ["Datatype", "Tensor", "TensorFacts", "array_of", "as_binary", "datatype_of", "tensor_of"]

Datatype: TypeAlias = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
BYTES: Datatype = "BYTES"
NUMPY: dict[Datatype, str] = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", BYTES: "O",
}  # fmt: skip
NAMES = {np.dtype(code): name for name, code in NUMPY.items()}
LENGTH_BYTES = 4
MOST_AXES = 8


class TensorFacts(BaseModel):
    """A tensor that a model takes or gives; -1 is the number of samples."""

    name: str
    datatype: Datatype
    shape: list[int]


class Tensor(BaseModel):
    """A tensor with its values."""

    name: str
    shape: list[int] = Field(max_length=MOST_AXES)
    datatype: Datatype
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = Field(None, description="Row by row, nested or flat; left out where it is binary.")


def datatype_of(dtype: Any) -> Datatype:
    """The datatype of a type of numpy."""
    return NAMES[np.dtype(dtype)]


def array_of(tensor: Tensor, binary: memoryview | None) -> np.ndarray:
    """The array of a tensor that was sent.

    Args:
        tensor: with its values, or without.
        binary: the values, where they are binary.

    Raises:
        DataError: values that are not of its datatype or shape.
    """
    name = shortened(printable(tensor.name))
    if any(size < 0 for size in tensor.shape):
        raise DataError(f"tensor {name!r}: the shape {tensor.shape} has a negative size")
    if binary is None and tensor.data is None:
        raise DataError(f"tensor {name!r}: it has no data; give a list, or binary data with its binary_data_size")
    try:
        found = _from_list(tensor) if binary is None else _from_binary(tensor.datatype, binary)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"tensor {name!r}: its data is not {tensor.datatype} ({error})") from None
    if found.size != prod(tensor.shape):
        wanted = f"the shape {tensor.shape} is of {prod(tensor.shape):,} values"
        raise DataError(f"tensor {name!r}: {wanted}, and there are {found.size:,}")
    return found.reshape(tensor.shape)


def tensor_of(name: str, values: np.ndarray, *, binary: bool) -> dict[str, Any]:
    """A tensor as JSON; with `binary` its values come behind the JSON, by `as_binary`."""
    facts = {"name": name, "shape": list(values.shape), "datatype": datatype_of(values.dtype)}
    if binary:
        return {**facts, "parameters": {"binary_data_size": values.nbytes}}
    return {**facts, "data": values.ravel().tolist()}


def as_binary(values: np.ndarray) -> bytes:
    """The values of a tensor of numbers or truth values as binary data."""
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def _from_list(tensor: Tensor) -> np.ndarray:
    values = list(_flat(tensor.data or [], MOST_AXES))
    for value in values:
        if not _is_of(tensor.datatype, value):
            raise ValueError(f"such as {shortened(repr(value))}")
    if tensor.datatype.startswith("FP"):
        return np.array([np.nan if value is None else value for value in values], dtype=NUMPY[tensor.datatype])
    return np.array(values, dtype=NUMPY[tensor.datatype])


def _is_of(datatype: Datatype, value: Any) -> bool:
    """Whether a value of JSON is one of a datatype; numpy 1 wraps what is too large, and all cut 1.5 to 1."""
    if datatype in (BYTES, "BOOL"):
        return isinstance(value, str if datatype == BYTES else bool)
    if isinstance(value, bool):
        return False
    if datatype.startswith("FP"):
        return isinstance(value, int | float | None)
    span = np.iinfo(NUMPY[datatype])
    return isinstance(value, int) and int(span.min) <= value <= int(span.max)


def _flat(values: Sequence[Any], axes: int) -> Any:
    for value in values:
        if isinstance(value, list) and axes > 1:
            yield from _flat(value, axes - 1)
        else:
            yield value


def _from_binary(datatype: Datatype, binary: memoryview) -> np.ndarray:
    if datatype == BYTES:
        return np.array(list(_texts(binary)), dtype=object)
    if datatype == "BOOL":
        return np.frombuffer(binary, np.uint8).astype(bool)
    return np.frombuffer(binary, NUMPY[datatype])


def _texts(binary: memoryview) -> Any:
    start = 0
    while start < len(binary):
        end = start + LENGTH_BYTES + int.from_bytes(binary[start : start + LENGTH_BYTES], "little")
        if end > len(binary):
            raise ValueError("a text is longer than what was sent")
        yield str(binary[start + LENGTH_BYTES : end], "utf-8")
        start = end
