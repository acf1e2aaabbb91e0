"""Training on MNIST and KDDCUP99, and scoring of KDDCUP99, on the CPU.

Our loop is compared with what one writes by hand for the same network: torch's own layers, the formulas of the paper
term by term, the same batch and as many steps; a DataLoader for the images, an indexed tensor for the rows. All of
it runs on one thread and is timed by the processor time it takes, so that a busy machine disturbs less.

The limit is the FLOP of a sample, counted below, at the float32 rate of a large matrix product on this machine.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from experiments.protocols import images, kddcup
from memae.config import Config
from memae.data.preprocess import ImagePreprocess
from memae.data.samples import Images
from memae.models.autoencoder import Autoencoder
from memae.models.presets import KDDCUP_WIDTHS, build, preset_config
from memae.scoring import sample_scores
from memae.train import reconstruction_objective, train

__all__ = ["matrix_rate", "plain_form", "sample_flop", "training_benchmark"]

MATRIX_SIDE = 2048
MNIST_CLASS, MNIST_IMAGES, MNIST_EPOCHS = 8, 3840, 2
KDD_ROWS, KDD_EPOCHS = 132_000, 5  # what the paper's protocol leaves to train on, and the epochs of its preset
MEASURES = (
    "matrix_rate", "kdd_scoring",
    "mnist_ours", "mnist_plain", "mnist_bf16", "mnist_autoencoder_ours", "mnist_autoencoder_plain",
    "kdd_ours", "kdd_plain", "kdd_autoencoder_ours", "kdd_autoencoder_plain", "kdd_pyod",
)  # fmt: skip


def training_benchmark(rounds: int = 5) -> dict[str, Any]:
    """Samples a second of each way to train, medians over interleaved rounds, and the limits."""
    pyod = importlib.util.find_spec("pyod") is not None
    names = [name for name in MEASURES if pyod or name != "kdd_pyod"]
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):  # interleaved, so that a busy minute hits all alike
        for name in names:
            # a process each: our training tells the allocator of its process to keep what it has
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
                rates[name].append(fresh.submit(_measured, name).result())
    median = {name: statistics.median(values) for name, values in rates.items()}
    networks = {"mnist": ("mnist", "image", (1, 28, 28)), "kdd": ("kddcup-paper", "table", (120,))}
    flop = {}
    for name, (preset, modality, shape) in networks.items():
        config = preset_config(preset, modality)
        flop[name] = sample_flop(build(config, shape), shape)
        flop[f"{name}_autoencoder"] = sample_flop(build(_without_memory(config), shape), shape)
    times_plain = {name: round(median[f"{name}_ours"] / median[f"{name}_plain"], 2) for name in flop}
    return {
        **{name: round(value) for name, value in median.items() if name != "matrix_rate"},
        "kdd_pyod": round(median["kdd_pyod"]) if pyod else None,
        "pyod": importlib.metadata.version("pyod") if pyod else "not installed",
        "times_plain": times_plain,
        "kdd_times_pyod": round(median["kdd_autoencoder_ours"] / median["kdd_pyod"], 1) if pyod else None,
        "matrix_rate_gflops": round(median["matrix_rate"] / 1e9, 1),
        "mflop_per_sample": {name: round(value / 1e6, 3) for name, value in flop.items()},
        "share_of_limit": {
            name: round(median[f"{name}_ours"] * value / median["matrix_rate"], 3) for name, value in flop.items()
        },
        "spread": {name: [float(f"{f(values):.4g}") for f in (min, max)] for name, values in rates.items()},
        "unit": "samples a second of processor time, on one thread",
    }


def _measured(name: str) -> float:
    """Samples a second of one way to train or score, or the FLOP/s of a matrix product, in this process."""
    torch.set_num_threads(1)
    if name == "matrix_rate":
        return matrix_rate()
    if name == "kdd_scoring":
        rows = _rows()
        model = build(preset_config("kddcup-paper", "table"), tuple(rows.shape[1:]))
        sample_scores(model, rows[:20_000])
        return len(rows) / _seconds(lambda: sample_scores(model, rows), time.process_time)
    data, *rest, way = name.split("_")
    if data == "mnist":
        x, config, epochs = _pictures(), preset_config("mnist", "image"), MNIST_EPOCHS
    else:
        x, config, epochs = _rows(), preset_config("kddcup-paper", "table"), KDD_EPOCHS
    if rest:
        config = _without_memory(config)
    work = {"ours": _ours, "bf16": partial(_ours, precision="bf16"), "plain": _plain, "pyod": _pyod}[way]
    work(config, x[:2048], 1)  # the first steps pay for imports
    return epochs * len(x) / _seconds(lambda: work(config, x, epochs), time.process_time)


def sample_flop(model: Autoencoder, shape: tuple[int, ...]) -> float:
    """Multiplications and additions of a training step on one sample: layers and the two products of the memory.

    Forward, gradient of the weights, and gradient of the input, which the first layer does not need. Taps of a
    convolution that fall on the padding are counted in.
    """
    forward, first = 0.0, 0.0

    def count(layer: nn.Module, x: tuple[Tensor], y: Tensor) -> None:
        nonlocal forward, first
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
        # each weight works once at every place: of the output, and of the input where the layer is transposed
        places = (x[0] if isinstance(layer, nn.ConvTranspose2d) else y)[0]
        work = 2.0 * layer.weight.numel() * places[0].numel() if places.ndim == 3 else 2.0 * layer.weight.numel()
        forward += work
        first = first or work

    model = plain_form(model).eval()
    hooks = [m.register_forward_hook(count) for m in model.modules() if getattr(m, "weight", None) is not None
             and not isinstance(m, nn.BatchNorm2d)]  # fmt: skip
    with torch.no_grad():
        encoding = model.encoder(torch.zeros(1, *shape))
        model.decoder(encoding)
    for hook in hooks:
        hook.remove()
    if model.memory is not None:
        forward += 2 * 2.0 * model.memory.items.numel() * len(model.memory.queries(encoding))
    return 3 * forward - first


def matrix_rate() -> float:
    """FLOP/s of a large float32 matrix product: what the matrix units of this machine give at best."""
    a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE) for _ in range(2))
    return 2 * MATRIX_SIDE**3 / min(_seconds(lambda: torch.mm(a, b), time.process_time) for _ in range(3))


def plain_form(model: Autoencoder) -> Autoencoder:
    """A copy of a network whose layers are torch's own."""
    plain = copy.deepcopy(model)
    for layer in (*plain.encoder.modules(), *plain.decoder.modules()):
        layer.__class__ = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn"))
    return plain


def _pictures() -> Tensor:
    """(MNIST_IMAGES, 1, 28, 28) as the network of the preset sees them."""
    pixels = images.mnist(MNIST_CLASS, 0).fit[:MNIST_IMAGES]
    samples = Images(pixels, list(range(len(pixels))), "MNIST")
    return ImagePreprocess.fit(samples, "unit").encode(samples)


def _without_memory(config: Config) -> Config:
    return config.model_copy(update={"memory": config.memory.model_copy(update={"enabled": False})})


def _seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    started = clock()
    work()
    return clock() - started


def _rows() -> Tensor:
    """(KDD_ROWS, 120) in [0, 1]."""
    rows = torch.from_numpy(kddcup.paper(0).fit[:KDD_ROWS]).float()
    low, high = rows.amin(dim=0), rows.amax(dim=0)
    return (rows - low) / (high - low).clamp_min(1e-9)


def _ours(config: Config, x: Tensor, epochs: int, precision: str = "float32") -> None:
    torch.manual_seed(0)
    settings = config.train.model_copy(update={"epochs": epochs, "patience": 0, "precision": precision})
    objective = reconstruction_objective(alpha=settings.entropy_weight, reduction=settings.reduction)
    model = build(config, tuple(x.shape[1:]))
    train(model, x, None, objective=objective, settings=settings, seed=0, device="cpu")


def _plain(config: Config, x: Tensor, epochs: int) -> None:
    """The same training, written by hand."""
    torch.manual_seed(0)
    size = config.train.batch_size
    loader = DataLoader(TensorDataset(x), batch_size=size, shuffle=True)
    model = plain_form(build(config, tuple(x.shape[1:]))).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.train.learning_rate)
    for _ in range(epochs):
        batches = (b for (b,) in loader) if x.ndim == 4 else (x[i] for i in torch.randperm(len(x)).split(size))
        total = torch.zeros(())
        for batch in batches:
            encoding = model.encoder(batch)
            entropy = torch.zeros(1)
            if model.memory is not None:
                encoding, entropy = _plain_read(model.memory, encoding)
            loss = (model.decoder(encoding) - batch).square().flatten(1).sum(dim=1).mean()
            loss = loss + config.train.entropy_weight * entropy.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()


def _plain_read(memory: Any, encoding: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 3 to 8 of the paper for whole encodings: what replaces them, and the entropies."""
    query = encoding.flatten(1)
    logits = F.normalize(query, dim=1) @ F.normalize(memory.items, dim=1).T / memory.temperature
    weights = torch.softmax(logits, dim=1)
    margin = weights - memory.shrinkage / memory.num_items
    weights = F.normalize(F.relu(margin) * weights / (margin.abs() + 1e-12), p=1, dim=1)
    return (weights @ memory.items).view(encoding.shape), -(weights * (weights + 1e-12).log()).sum(dim=1)


def _pyod(config: Config, x: Tensor, epochs: int) -> None:
    """PyOD's autoencoder of the same layers; it scores its own samples at the end, as it always does."""
    from pyod.models.auto_encoder import AutoEncoder

    AutoEncoder(
        preprocessing=False,
        lr=config.train.learning_rate,
        epoch_num=epochs,
        batch_size=config.train.batch_size,
        device="cpu",
        verbose=0,
        hidden_neuron_list=list(KDDCUP_WIDTHS),
        hidden_activation_name="tanh",
        batch_norm=False,
        dropout_rate=0.0,
    ).fit(x.numpy())
