"""The accelerator of a training, also where Accelerate should no longer forget the one before."""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from memae.config import TrainConfig
from memae.training import loop as training
from memae.training.accelerator import accelerator_for
from memae.training.objective import BatchLoss


def test_a_process_trains_in_one_precision_after_another() -> None:
    assert accelerator_for("fp32", "cpu").mixed_precision == "no"
    assert accelerator_for("bf16", "cpu").mixed_precision in ("no", "bf16")  # a CPU without it takes float32
    assert accelerator_for("fp32", "cpu").mixed_precision == "no"


def test_without_its_private_reset_accelerate_trains_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> torch.Tensor:
        torch.manual_seed(0)
        model, x = nn.Linear(3, 3), torch.ones(40, 3)

        def objective(model: nn.Module, batch: torch.Tensor) -> BatchLoss:
            return BatchLoss((model(batch) - 2).square().mean(), None)

        settings = TrainConfig(epochs=2, batch_size=10, learning_rate=0.1, patience=0)
        training.train(model, x, None, objective=objective, settings=settings, seed=0, device="cpu")
        return model.weight.detach()

    wanted = train()
    monkeypatch.delattr(AcceleratorState, "_reset_state")
    for _ in range(2):
        assert torch.equal(train(), wanted)
