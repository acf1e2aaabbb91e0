"""Training on MNIST and KDDCUP99, and scoring of KDDCUP99, on the CPU.

Our loop is compared with what one writes by hand for the same network: torch's own layers, the formulas of the paper
term by term, the same batch and as many steps; a DataLoader for the images, an indexed tensor for the rows. Each is
timed twice: by the processor time that it takes on one thread, which a busy machine disturbs least, and by the clock
with the threads that it takes when nobody says how many, which is what a user waits for.

PyOD's autoencoder with the same layers goes by the clock, as it comes (columns scaled, BatchNorm, dropout) and bare, at
its own batch of 32 rows and at that of the preset. It scores its own rows at the end of a fit, as it always does.

The limit is the FLOP of a sample, counted below, at the float32 rate of a large matrix product on this machine.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import multiprocessing
import os
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
from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.engine.batch_limit import BatchLimit
from memae.engine.scoring import Scorer
from memae.image.arrays import Images
from memae.image.preprocess import ImagePreprocess
from memae.memory.memae import MemAESettings
from memae.modality import build, modality_of, preset_config
from memae.table.config import KDDCUP_WIDTHS
from memae.table.scoring import row_errors
from memae.training.loop import train
from memae.training.objective import ReconstructionObjective

__all__ = ["forward_flop", "matrix_rate", "memory_rate", "sample_flop", "training_benchmark"]

MATRIX_SIDE = 2048
MNIST_CLASS, MNIST_IMAGES, MNIST_EPOCHS = 8, 3840, 2
KDD_ROWS, KDD_EPOCHS = 132_000, 5  # what the paper's protocol leaves to train on, and the epochs of its preset
PYOD_ROWS, PYOD_EPOCHS = 40_000, 1
PRESETS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "mnist": ("mnist", "image", (1, 28, 28)),  # our default: network `small`
    "mnist-paper": ("mnist-paper", "image", (1, 28, 28)),
    "kdd": ("kddcup-paper", "table", (120,)),
}
COMPARED = tuple(f"{data}{kind}" for data in PRESETS for kind in ("", "_autoencoder"))
TIMED = tuple(f"{name}_{way}" for name in COMPARED for way in ("ours", "plain"))
TIMED += ("mnist_bf16", "mnist-paper_bf16", "kdd_scoring")
PYOD_BATCHES = (32, 1024)
PYOD_WAYS = ("pyod", "pyod-bare")
PYOD_TIMED = tuple(f"kdd_autoencoder_{way}_{size}" for size in PYOD_BATCHES for way in ("ours", *PYOD_WAYS))
LIMITS = ("matrix_rate", "mm_rate", "memory_rate")
COPIED_BYTES = 1 << 28  # more than any cache holds
MOVED_PARAMETERS = (
    8  # a step reads weights, writes and reads gradients, reads and writes two moments, writes weights
)
GOALS = {"times_plain": 2.0, "times_pyod": 30.0, "kdd_scoring": 600_000.0}


def training_benchmark(rounds: int = 5) -> dict[str, Any]:
    """Samples a second of each way to train, medians over interleaved rounds, and the limits."""
    pyod = importlib.util.find_spec("pyod") is not None
    jobs = [("one_thread", name) for name in (*LIMITS, *TIMED)] + [("wall", name) for name in TIMED]
    jobs += [("wall", name) for name in PYOD_TIMED if pyod]
    rates: dict[tuple[str, str], list[float]] = {job: [] for job in jobs}
    for _ in range(rounds):  # interleaved, so that a busy minute hits all alike
        for job in jobs:
            # a process each, so that none finds what another has loaded or keeps in memory
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
                rates[job].append(fresh.submit(_measured, *job).result())
    median = {job: statistics.median(values) for job, values in rates.items()}
    matrix, mm, memory = (median.pop(("one_thread", name)) for name in LIMITS)
    work = {name: _work(name) for name in (*COMPARED, "kdd_scoring")}
    seconds = {name: max(flop / matrix, moved / memory) for name, (flop, moved) in work.items()}
    return {
        **{
            how: {name: round(rate) for (h, name), rate in median.items() if h == how}
            for how in ("one_thread", "wall")
        },
        "times_plain": {
            how: {name: round(median[how, f"{name}_ours"] / median[how, f"{name}_plain"], 2) for name in COMPARED}
            for how in ("one_thread", "wall")
        },
        "times_pyod": _times_pyod(median) if pyod else None,
        "goals": GOALS,
        "pyod": importlib.metadata.version("pyod") if pyod else "not installed",
        "cores": os.cpu_count(),
        "default_threads": torch.get_num_threads(),
        "matrix_rate_gflops": round(matrix / 1e9, 1),
        "torch_mm_gflops": round(mm / 1e9, 1),
        "memory_rate_gb": round(memory / 1e9, 1),
        "mflop_per_sample": {name: round(flop / 1e6, 3) for name, (flop, _) in work.items()},
        "bytes_per_sample": {name: round(moved) for name, (_, moved) in work.items()},
        "share_of_limit": {
            name: round(median["one_thread", f"{name}_ours" if name in COMPARED else name] * least, 3)
            for name, least in seconds.items()
        },
        "spread": {
            f"{how} {name}": [float(f"{f(values):.4g}") for f in (min, max)]
            for (how, name), values in rates.items()
        },
        "unit": "samples a second: of processor time on one thread, and by the clock with default threads",
    }


def _times_pyod(median: dict[tuple[str, str], float]) -> dict[str, float]:
    """Ours over PyOD's, at each batch; and ours at the larger batch over PyOD as it comes, at its own."""
    name = "kdd_autoencoder"
    found = {
        f"{way}, batch {size}": median["wall", f"{name}_ours_{size}"] / median["wall", f"{name}_{way}_{size}"]
        for size in PYOD_BATCHES
        for way in PYOD_WAYS
    }
    small, large = PYOD_BATCHES
    best = median["wall", f"{name}_ours_{large}"] / median["wall", f"{name}_pyod_{small}"]
    return {what: round(times, 1) for what, times in (found | {f"ours at {large}, pyod at {small}": best}).items()}


def _measured(how: str, name: str) -> float:
    """Samples a second of one way to train or score, or the FLOP/s of a matrix product, in this process."""
    clock = time.perf_counter
    if how == "one_thread":
        torch.set_num_threads(1)
        clock = time.process_time
    if name == "matrix_rate":
        return matrix_rate()
    if name == "mm_rate":
        return matrix_rate(torch.mm)
    if name == "memory_rate":
        return memory_rate()
    data, *words = name.split("_")
    config, x = _config(data), _rows() if data == "kdd" else _pictures()
    epochs = KDD_EPOCHS if data == "kdd" else MNIST_EPOCHS
    if words == ["scoring"]:
        model = build(config, tuple(x.shape[1:]))
        scorer = Scorer(
            model, row_errors, BatchLimit("scoring"), model.memory.num_items if model.memory else 0, 4096
        )
        scorer.scores(x[:20_000])
        return len(x) / _seconds(lambda: scorer.scores(x), clock)
    if words[0] == "autoencoder":
        config = _without_memory(config)
        del words[0]
    if len(words) > 1:
        x, epochs = x[:PYOD_ROWS], PYOD_EPOCHS
        config = config.model_copy(update={"train": config.train.model_copy(update={"batch_size": int(words[1])})})
    ways: dict[str, Callable[[Config, Tensor, int], None]] = {
        "ours": _ours, "bf16": partial(_ours, precision="bf16"), "plain": _plain,
        "pyod": _pyod, "pyod-bare": partial(_pyod, bare=True),
    }  # fmt: skip
    work = ways[words[0]]
    work(config, x[:2048], 1)  # the first steps pay for imports
    return epochs * len(x) / _seconds(lambda: work(config, x, epochs), clock)


def _config(data: str) -> Config:
    preset, modality, _ = PRESETS[data]
    return preset_config(preset, modality)


def _work(name: str) -> tuple[float, float]:
    """What a sample takes at least: multiplications and additions, and bytes from and to memory.

    Bytes are those of the encoded sample, and of a training step the parameters' share of one of the batch; what lies
    between the layers stays in the cache.
    """
    data, *words = name.split("_")
    config, shape = _config(data), PRESETS[data][2]
    model = build(_without_memory(config) if "autoencoder" in words else config, shape)
    bytes_of_sample = 4.0 * math.prod(shape)
    if "scoring" in words:
        return forward_flop(model, shape)[0], bytes_of_sample
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert config.train.batch_size is not None
    return sample_flop(
        model, shape
    ), bytes_of_sample + 4.0 * MOVED_PARAMETERS * parameters / config.train.batch_size


def sample_flop(model: Autoencoder, shape: tuple[int, ...]) -> float:
    """Multiplications and additions of a training step on one sample: layers and the two products of the memory.

    Forward, gradient of the weights, and gradient of the input, which the first layer does not need.
    """
    forward, first = forward_flop(model, shape)
    return 3 * forward - first


def forward_flop(model: Autoencoder, shape: tuple[int, ...]) -> tuple[float, float]:
    """Multiplications and additions of a forward pass on one sample, and of its first layer alone.

    Taps of a convolution that fall on the padding are counted in.
    """
    forward, first = 0.0, 0.0

    def count(layer: nn.Module, x: tuple[Tensor], y: Tensor) -> None:
        nonlocal forward, first
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
        # each weight works once at every place: of the output, and of the input where the layer is transposed
        places = (x[0] if isinstance(layer, nn.ConvTranspose2d) else y)[0]
        work = 2.0 * layer.weight.numel() * (places[0].numel() if places.ndim == 3 else 1)
        forward += work
        first = first or work

    model = model.eval()
    hooks = [m.register_forward_hook(count) for m in model.modules() if getattr(m, "weight", None) is not None
             and not isinstance(m, nn.BatchNorm2d)]  # fmt: skip
    with torch.no_grad():
        encoding = model.encoder(torch.zeros(1, *shape))
        model.decoder(encoding)
    for hook in hooks:
        hook.remove()
    if model.memory is not None:
        items = model.memory.num_items * model.memory.item_dim
        forward += 2 * 2.0 * items * model.queries(encoding).shape[1]
    return forward, first


def matrix_rate(*ways: Callable[[Tensor, Tensor], Tensor]) -> float:
    """FLOP/s of a large float32 matrix product: what the matrix units of this machine give at best, by any library."""
    a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE) for _ in range(2))
    seconds = [
        _seconds(partial(way, a, b), time.process_time)
        for way in ways or (torch.mm, _by_convolution)
        for _ in range(3)
    ]
    return 2 * MATRIX_SIDE**3 / min(seconds)


def _by_convolution(left: Tensor, right: Tensor) -> Tensor:
    """left @ right by the library that convolutions go through, as one of 1 x 1."""
    return F.conv2d(left[None, :, None].movedim(-1, 1), right.T[:, :, None, None])[0, :, :, 0].T


def memory_rate() -> float:
    """Bytes a second that a large copy reads and writes together, on one thread."""
    source = torch.ones(COPIED_BYTES // 4)
    target = torch.zeros_like(source)
    return 2 * COPIED_BYTES / min(_seconds(partial(target.copy_, source), time.process_time) for _ in range(5))


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
    objective = ReconstructionObjective(reduction=settings.reduction)
    model = build(config, tuple(x.shape[1:]))
    small = modality_of(config.network).small_step
    train(model, x, None, objective=objective, settings=settings, seed=0, small_step=small, device="cpu")


def _plain(config: Config, x: Tensor, epochs: int) -> None:
    """The same training, written by hand."""
    assert isinstance(config.memory, MemAESettings)
    torch.manual_seed(0)
    size = config.train.batch_size
    loader = DataLoader(TensorDataset(x), batch_size=size, shuffle=True)
    model = build(config, tuple(x.shape[1:])).train()
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
            loss = loss + config.memory.entropy_weight * entropy.mean()
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


def _pyod(config: Config, x: Tensor, epochs: int, bare: bool = False) -> None:
    """PyOD's autoencoder of the same layers, as it comes or without what ours does not have."""
    from pyod.models.auto_encoder import AutoEncoder

    without = {"preprocessing": False, "batch_norm": False, "dropout_rate": 0.0} if bare else {}
    AutoEncoder(
        lr=config.train.learning_rate,
        epoch_num=epochs,
        batch_size=config.train.batch_size,
        device="cpu",
        verbose=0,
        hidden_neuron_list=list(KDDCUP_WIDTHS),
        hidden_activation_name="tanh",
        **without,
    ).fit(x.numpy())
