"""Made the golden models in v9/ with the code of commit 647da1e; run it there, from the root of the checkout:

python -m tests.golden.make_v9 [NAME...]

It knows that commit from inside and runs with no later one. check_v9.py says what the models are and checks them. Each
is trained briefly, and its network then thinned while it is fitted, before the uses of its items, the usual error and
the threshold are found, so that all of them are of the network that is saved: of the large tensors of weights the
largest few are kept, at least two for each output; these go on training for a few steps as a plain autoencoder; the
memory is started anew from encodings, with what the preset's own training of it would leave at most of order; and
every number is rounded to bfloat16. A network and all that it is asked run through torch's own layers in float32
(`plain_torch`). v9/expected.json holds for each model:

- "said": what `check_v9.said` found;
- "fast_form": the worst relative difference of the same by the forms that 647da1e itself takes on this machine;
  For video "float32_form" and "bf16_form" are the same of `inference_form(model, torch.float32)` and bfloat16;
- "margin": how near an addressing weight of the scored samples comes to the shrinkage, relatively: beyond it a weight
  would go to zero, and a tiny difference would not stay tiny;
- "felt": the least effect, relative to the scores, of any tensor of the model when it is turned round, a
  quarter larger and moved.
"""

import json
import lzma
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

import memae.fitting
import memae.frame_scoring
import memae.scoring
from memae import Autoencoder, Detector
from memae.models.inference import inference_form
from tests.golden.check_v9 import GOLDENS, V9, Golden, check, compared, mixed_data, model_directory, said

LARGE = 1500  # numbers of a tensor that is thinned
STEPS = 60  # that the kept weights go on training for
BATCH = 16
RATE = 3e-3
SEEDS = 12  # the first whose margin is wide enough is taken
MARGIN = 1e-4
SPREAD = 1.5  # deviation of the logits of a dot product


@contextmanager
def plain_torch() -> Iterator[None]:
    """No compiled squares, no bfloat16 or int8 form of clips: the network itself, in float32."""
    with _forms(lambda model: model.eval()):
        yield


@contextmanager
def _forms(form: Any) -> Iterator[None]:
    """From a network to what scores in its place."""
    with (
        patch.object(memae.scoring, "inference_form", form),
        patch.object(memae.frame_scoring, "inference_form", form),
    ):
        yield


@contextmanager
def thinning(weights: int) -> Iterator[None]:
    """Networks are thinned to so many large weights behind their training."""
    train = memae.fitting._train

    def trained(model: Any, config: Any, prepared: Any, seed: int, *more: Any) -> Any:
        history = train(model, config, prepared, seed, *more)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _thin(model, config, prepared.training, weights)
        return history

    with patch.object(memae.fitting, "_train", trained):
        yield


def _thin(model: Autoencoder, config: Any, training: Any, weights: int) -> None:
    masks = _masks(model, weights)
    plain = Autoencoder(model.encoder, None, model.decoder)
    _go_on(plain, training, masks)
    _rounded(plain)
    if model.memory is None:
        return
    generator = torch.Generator().manual_seed(1)
    some = training[torch.randperm(len(training), generator=generator)[:256].sort().values]
    memory = model.memory
    with torch.no_grad():
        encodings = model.eval().encoder(some)
        if memory.similarity == "dot":  # of codes so long each read would take one item, whole
            directions = torch.nn.functional.normalize(memory.queries(encodings), dim=1)
            length = memory.queries(encodings).norm(dim=1).mean()
            spread = (directions @ directions.T).std(dim=1).mean() * length.square()
            _rescale(model, float((SPREAD * memory.temperature / spread).sqrt()))
            _rounded(model)
            encodings = model.encoder(some)
        memory.initialise(encodings, config.memory.initialisation.replace("uniform", "data"), generator)
        if memory.similarity == "dot":  # and the longest would be in all of them
            size = memory.items.norm(dim=1).mean()
            memory.items.copy_(torch.nn.functional.normalize(memory.items, dim=1) * size)
    if config.memory.trained:
        for part in (model.encoder, model.decoder):
            part.requires_grad_(False)
        _go_on(model, training, {}, train=False, rate=0.02 * float(memory.items.detach().abs().mean()))
        for part in (model.encoder, model.decoder):
            part.requires_grad_(True)
    _rounded(model)
    model.eval()


@torch.no_grad()
def _masks(model: Autoencoder, weights: int) -> dict[str, Tensor]:
    """Which of the numbers of each large tensor are kept."""
    large = {
        name: weight
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and weight.numel() > LARGE and not name.startswith("memory")
    }
    total = sum(weight.numel() ** 0.5 for weight in large.values())
    masks = {}
    for name, weight in large.items():
        kept = min(weight.numel(), int(weights * weight.numel() ** 0.5 / total))
        size = weight.abs()
        mask = size >= size.flatten().topk(kept).values[-1]
        rows = size.flatten(1)
        each = min(2, rows.shape[1])
        mask |= torch.zeros_like(rows, dtype=torch.bool).scatter_(1, rows.topk(each).indices, True).view_as(mask)
        columns = size.transpose(0, 1).flatten(1)
        other = torch.zeros_like(columns, dtype=torch.bool).scatter_(1, columns.topk(each).indices, True)
        mask |= other.view(size.shape[1], size.shape[0], *size.shape[2:]).transpose(0, 1)
        masks[name] = mask
        weight.mul_(mask).mul_((mask.numel() / mask.sum()).pow(0.25))
    return masks


def _rescale(model: Autoencoder, factor: float) -> None:
    """Codes become so much longer, and the decoder takes it back: what is behind the last layer is homogeneous."""
    last = [module for module in model.encoder.modules() if getattr(module, "weight", None) is not None][-1]
    first = next(module for module in model.decoder.modules() if getattr(module, "weight", None) is not None)
    last.weight.mul_(factor)
    last.bias.mul_(factor)
    first.weight.div_(factor)


def _go_on(
    model: Autoencoder, training: Any, masks: dict[str, Tensor], *, train: bool = True, rate: float = RATE
) -> None:
    parameters = [weight for weight in model.parameters() if weight.requires_grad]
    adam = torch.optim.Adam(parameters, rate)
    model.train(train)
    for _ in range(STEPS):
        x = training[torch.randint(len(training), (BATCH,))]
        adam.zero_grad()
        (model(x).x - x).square().mean().backward()
        adam.step()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in masks:
                    weight.mul_(masks[name])
    model.eval()


@torch.no_grad()
def _rounded(model: Autoencoder) -> None:
    for value in (*model.parameters(), *model.buffers()):
        if value.is_floating_point():
            value.copy_(value.bfloat16()).add_(0.0)  # no zero is negative, or none would pack


def fitted(golden: Golden, folder: Path) -> Detector:
    """The model, thinned, with its threshold."""
    folder.mkdir()
    normal, _ = golden.data(folder)
    with plain_torch(), thinning(golden.weights):
        detector = Detector(golden.preset, seed=golden.seed, settings=golden.settings, device="cpu")
        detector.fit(normal, **golden.fit)
    facts = detector._artifact.facts | {"origin": f"the data {golden.data.__name__!r} of check_v9.py"}
    detector._artifact = replace(detector._artifact, facts=facts)
    return detector


def margin(detector: Detector, mixed: Any) -> float | None:
    """How near a weight comes to the shrinkage, relatively; None where there is none."""
    memory = detector.model.memory
    if memory is None or not memory.shrinkage:
        return None
    least = 1.0

    def look(_: Any, given: tuple[Tensor]) -> None:
        nonlocal least
        # not sparse, but for what the softmax itself leaves
        queries, items = memory.queries(given[0]).double(), memory.items.double()
        if memory.similarity == "euclidean":
            logits = -torch.cdist(queries, items).square() / items.var(dim=0, correction=0).sum()
        elif memory.similarity == "cosine":
            logits = torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(items, dim=1).T
        else:
            logits = queries @ items.T
        weights = (logits / memory.temperature).softmax(dim=1)
        line = memory.shrinkage / memory.num_items
        least = min(least, float(((weights - line).abs() / line).min()))

    hook = memory.register_forward_pre_hook(look)
    with plain_torch(), torch.no_grad():
        detector.score(mixed)
    hook.remove()
    return least


@torch.no_grad()
def felt(detector: Detector, mixed: Any) -> tuple[float, str]:
    """The tensor whose loss changes scores least, and by how much of them."""
    with plain_torch():
        before = detector.score(mixed).values
        found = []
        for name, value in detector.model.state_dict().items():
            if not value.is_floating_point():
                continue
            kept = value.clone()
            value.copy_(kept.flip(0) * 1.25 + 0.05 * (kept.std() if kept.numel() > 1 else 1))
            after = detector.score(mixed).values
            found.append((float(np.max(np.abs(after - before) / np.abs(before))), name))
            value.copy_(kept)
    return min(found)


def make(name: str, folder: Path) -> dict[str, Any]:
    """Writes the model below v9/, and says what belongs into expected.json."""
    golden = GOLDENS[name]
    mixed = mixed_data(name, folder / "mixed")
    for seed in range(SEEDS):
        detector = fitted(replace(golden, seed=seed), folder / f"fit{seed}")
        if (margin(detector, mixed) or 1.0) > MARGIN:
            break
    else:
        raise SystemExit(f"{name}: no seed keeps the weights away from the shrinkage")
    place = V9 / name
    shutil.rmtree(place, ignore_errors=True)
    detector.save(place)
    file = place / "model.safetensors"
    packed = lzma.compress(file.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
    file.with_name(file.name + ".xz").write_bytes(packed)
    file.unlink()
    text = (place / "config.json").read_text()
    for word in ("/tmp", "/work", str(folder), "/home", "/root"):
        assert word not in text, f"{name}: {word} in config.json"

    loaded = Detector.load(model_directory(name, folder / "again"), device="cpu")
    with plain_torch():
        expected = _short(said(loaded, mixed))
    step = 1 / (len(loaded.threshold.calibration) + 1)
    found = {
        "recipe": " ".join((golden.data.__doc__ or "").split()),
        "preset": golden.preset,
        "seed": loaded.seed,
        "network": loaded.config.network,
        "p_step": step,
        "margin": margin(loaded, mixed),
        "fast_form": compared(json.loads(json.dumps(expected)), said(loaded, mixed), float("inf"), step),
    }
    for word, dtype in (("float32_form", torch.float32), ("bf16_form", torch.bfloat16)):
        if loaded.config.network.startswith("video"):
            with _forms(partial(inference_form, dtype=dtype)):
                found[word] = compared(json.loads(json.dumps(expected)), said(loaded, mixed), float("inf"), step)
    effect, tensor = felt(loaded, mixed)
    scores = np.array(expected["scores"])
    size = (len(packed) + len(text)) / 1000
    print(
        f"{name:20} {size:6.1f} kB, seed {loaded.seed}, scores {scores.min():.3g} to {scores.max():.3g}, "
        f"{sum(expected['is_anomaly'])} of {len(scores)} flagged, {expected['first']['item_count']} items, used "
        f"{sum(use > 0 for use in (expected['items'] or {'uses': []})['uses'])}, margin {found['margin'] or 1:.1e}, "
        f"fast {found['fast_form']:.1e}, felt {effect:.1e} {tensor}",
        flush=True,
    )
    return found | {"felt": effect, "said": expected}


def _short(found: Any) -> Any:
    """Numbers with nine digits."""
    if isinstance(found, dict):
        return {key: _short(value) for key, value in found.items()}
    if isinstance(found, list):
        return [_short(value) for value in found]
    return float(f"{found:.9g}") if isinstance(found, float) else found


def main(names: list[str]) -> None:
    """Makes those that are named, or all."""
    V9.mkdir(exist_ok=True)
    written = V9 / "expected.json"
    for name in names or GOLDENS:
        with tempfile.TemporaryDirectory() as folder:
            found = make(name, Path(folder))
        expected = json.loads(written.read_text()) if written.exists() else {}
        expected[name] = found
        ordered = {known: expected[known] for known in GOLDENS if known in expected}
        written.write_text(json.dumps(ordered, indent=None, separators=(",", ":")).replace('},"', '},\n"') + "\n")
    for name in names or GOLDENS:
        with tempfile.TemporaryDirectory() as folder, plain_torch():
            check(name, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
