"""The accelerator that a training runs on, through Hugging Face Accelerate."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch

from memae.engine import fast_bfloat16

__all__ = ["Device", "accelerator_for"]

Device = Literal["auto", "cpu"]


def accelerator_for(precision: str, device: Device) -> Any:
    """An `accelerate.Accelerator` for a precision, on the CPU where that is asked for or all there is."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # All Accelerators of a process share one state, which refuses a second precision or device. A launch of
    # several processes has its group in the partial state, so that stays. Nothing public forgets the state; should
    # this go, a process can train all the same, but with its first precision and device only.
    if forget := getattr(AcceleratorState, "_reset_state", None):
        forget(reset_partial_state="WORLD_SIZE" not in os.environ)
    # said outright, or a launch of several processes on a machine without a GPU would not find together
    cpu = device == "cpu" or not torch.accelerator.is_available()
    half = precision == "bf16" and not (cpu and not fast_bfloat16())  # emulated, it takes twenty times as long
    return Accelerator(cpu=cpu, mixed_precision="bf16" if half else "no")
