"""What a fit has before it, and about how long each part takes: so that its time left is that of the whole."""

from __future__ import annotations

import time
from math import prod

import torch
from torch import Tensor

from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.memory.starting import kmeans_batch_size
from memae.progress import Plan, Planned, fold_name
from memae.training.loop import Device
from memae.training.steps import epochs_of
from memae.types import Encoded, fitting

__all__ = ["cross_fit_plan", "fit_plan", "trimmed_plan"]

TIMED_SAMPLES, TIMED_BYTES = 256, 4 << 20  # that go through the network once to see how long that takes
TRAINING_PASSES = 3  # the forward pass, and two for the gradients of inputs and weights
KMEANS_S = 3e-8  # for each sample of a batch, item and dimension: measured, with all of its batches
KMEANS_IMPORT_S = 1.0


def fit_plan(
    model: Autoencoder,
    config: Config,
    training: Encoded,
    whole: Encoded,
    calibration: float,
    device: Device = "auto",
) -> Plan:
    """The trainings and the scoring after them, from the time of one forward pass.

    Args:
        model: fresh; it is moved to the device that it will be trained on.
        config: of the model.
        training: (S, ...) what it will be trained on.
        whole: (S, ...) the training samples as the trained model is examined with them.
        calibration: samples like those of `whole` that the threshold is set from.
        device: "auto" takes the accelerator.
    """
    if device == "auto" and torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    x = training[: min(TIMED_SAMPLES, fitting(training, TIMED_BYTES))].to(next(model.parameters()).device)
    plain_s = _forward_s(model.without_memory(), x)
    scored_s = _forward_s(model, x)
    epochs = epochs_of(config.train, len(training))
    warm = config.memory.warmup_epochs if model.memory is not None and config.memory.trained and epochs else 0
    epoch_s = TRAINING_PASSES * len(training) * (scored_s if config.memory.trained else plain_s)
    whole_s = scored_s * prod(whole.shape[1:]) / prod(training.shape[1:])
    counted_s = 0 if model.memory is None else len(whole) * whole_s
    start = Planned(f"starting the memory ({config.memory.initialisation})", _start_s(model, config))
    trained = Planned("training", epochs * epoch_s, training=True)
    stages = (
        Planned("warming up", warm * TRAINING_PASSES * len(training) * plain_s, training=True),
        *((start, trained) if config.memory.trained else (trained, start)),
        Planned("counting the use of items", counted_s),
        Planned("setting the threshold", calibration * whole_s),
    )
    return Plan(tuple(stage for stage in stages if stage.seconds))


def cross_fit_plan(whole: Plan, folds: int) -> Plan:
    """The plan of a cross-fit: the stages of each fold, and those of the training on all samples.

    Args:
        whole: the plan of the last model, with a threshold from the samples of all folds.
        folds: how many.
    """
    share, last = 1 - 1 / folds, "setting the threshold"

    def of_fold(stage: Planned) -> float:
        if stage.training:  # a fold takes as many steps as the last model
            return stage.seconds
        return stage.seconds * (1 / folds if stage.name == last else share)

    stages = tuple(
        Planned(
            f"{fold_name(number, folds)}, {stage.name}",
            of_fold(stage),
            stage.training,
        )
        for number in range(1, folds + 1)
        for stage in whole.stages
    )
    return Plan((*stages, *(stage for stage in whole.stages if stage.name != last)))


def trimmed_plan(whole: Plan) -> Plan:
    """The plan of a fit that first trains a model of each half of the samples, half as long.

    Args:
        whole: the plan of the fit without these.
    """
    stages = tuple(
        Planned(f"looking for anomalies, half {number} of 2, {stage.name}", stage.seconds / 4, stage.training)
        for number in (1, 2)
        for stage in whole.stages
        if stage.name != "setting the threshold"
    )
    return Plan((*stages, *whole.stages))


def _start_s(model: Autoencoder, config: Config) -> float:
    """Seconds of k-means; the other ways to start a memory take next to none."""
    if model.memory is None or config.memory.initialisation != "kmeans":
        return 0.0
    items, item_dim = model.memory.num_items, model.memory.item_dim
    return KMEANS_IMPORT_S + KMEANS_S * kmeans_batch_size(items) * items * item_dim


@torch.inference_mode()
def _forward_s(model: Autoencoder, x: Tensor) -> float:
    """Seconds a sample, of the fastest of three passes: the first prepares what the others find."""
    was_training, seconds = model.training, []
    model.eval()
    for _ in range(3):
        started = time.perf_counter()
        float(model(x).x.sum())  # waits for the device
        seconds.append(time.perf_counter() - started)
    model.train(was_training)
    return min(seconds) / len(x)
