"""The compiled library: which build of it fits this processor, and its C interface (`gradients.h`) in ctypes."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

__all__ = ["LayerStruct", "MemoryStruct", "NetworkStruct", "PairsStruct", "available", "library", "load", "widths"]

INTERFACE = 1  # MEMAE_INTERFACE of the header
WIDTHS = {
    "AVX512": ("avx512", "avx2", "any"),
    "AVX2": ("avx2", "any"),
}  # of registers, by what torch finds the processor to have


def available() -> bool:
    """Whether the compiled gradients can run: they were built, fit this processor and are not switched off.

    The environment variable MEMAE_COMPILED=0 switches them off; torch's autograd does the same, more slowly.
    """
    return os.environ.get("MEMAE_COMPILED") != "0" and library() is not None


@cache
def library() -> Any:
    """The build for the widest registers of this processor; None where there is none."""
    return next(filter(None, map(load, widths())), None)


def widths() -> tuple[str, ...]:
    """Names of the builds that this processor can run, the widest registers first."""
    return WIDTHS.get(torch.backends.cpu.get_cpu_capability(), ("any",))


def load(width: str) -> Any:
    """The build for registers of a width; None where it was not built, does not load or has another interface."""
    spec = find_spec(f"{__package__}._{width}")
    if spec is None or spec.origin is None:
        return None
    try:
        found = ctypes.CDLL(spec.origin)
        return _typed(found) if found.memae_interface() == INTERFACE else None
    except (OSError, AttributeError):
        return None


def _fields(*some: tuple[Any, str]) -> list[tuple[str, Any]]:
    return [(name, kind) for kind, names in some for name in names.split()]


class PairsStruct(ctypes.Structure):
    """`memae_pairs`."""

    _fields_ = _fields((ctypes.c_void_p, "start tap out into"))


class LayerStruct(ctypes.Structure):
    """`memae_layer`."""

    _fields_ = _fields(
        (ctypes.c_int32, "inputs outputs places_in places_out taps activation"),
        (ctypes.c_int64, "by_output by_input by_tap"),
        (PairsStruct, "sorted_by_out sorted_by_in sorted_by_tap"),
        (
            ctypes.c_void_p,
            "weight weight_grad shift shift_grad scale scale_grad running_mean running_variance batches",
        ),
        (ctypes.c_float, "momentum epsilon"),
    )


class MemoryStruct(ctypes.Structure):
    """`memae_memory`."""

    _fields_ = _fields(
        (ctypes.c_int32, "num_items cosine"),
        (ctypes.c_float, "threshold temperature"),
        (ctypes.c_void_p, "items items_grad"),
        (LayerStruct, "query value"),
    )


class NetworkStruct(ctypes.Structure):
    """`memae_network`."""

    _fields_ = _fields(
        (ctypes.POINTER(LayerStruct), "layers"),
        (ctypes.c_int32, "num_layers decoder"),
        (ctypes.POINTER(MemoryStruct), "memory"),
    )


def _typed(found: Any) -> Any:
    network, address, count = ctypes.POINTER(NetworkStruct), ctypes.c_void_p, ctypes.c_int32
    found.memae_workspace.argtypes, found.memae_workspace.restype = [network, count, count], ctypes.c_int64
    found.memae_gradients.argtypes = [
        network, address, address, count, ctypes.c_float, ctypes.c_float, count, address, address,
    ]  # fmt: skip
    found.memae_gradients.restype = ctypes.c_double
    found.memae_adam.argtypes, found.memae_adam.restype = (
        [ctypes.c_int64, *5 * [address], *4 * [ctypes.c_double]],
        None,
    )
    return found
