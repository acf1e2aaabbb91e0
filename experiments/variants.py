"""What was tried for the defaults: the settings of each variant, round by round. `experiments.tune` compares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["PRESETS", "VARIANTS", "Settings"]

Settings = Mapping[str, Any]

PRESETS = {
    "mnist": "mnist-paper",  # its network; the variants set all else
    "mnist-code": "mnist",
    "mnist-length": "mnist-paper",
    "cifar10": "cifar10",
    "kddcup99": "kddcup-paper",
    "kddcup99-distinct": "kddcup",
    "kddcup99-items": "kddcup",
    "kddcup99-length": "kddcup",
    "tables": "table-paper",  # as above
    "tables-2": "table",
    "ped2": "video",
    "ped2-read": "video",
    "ped2-size": "video",
    "defects": "image",
    "defects-256": "image",
}

WARM = {"warmup_epochs": 5, "initialisation": "kmeans"}
SHARP = {"temperature": 1 / 30, "shrinkage": 5.0}
UNIFORM = {"initialisation": "uniform", "warmup_epochs": 0}
PLAIN = {"memory": {"enabled": False}}
LOOKED_UP = {
    "num_items": 2000,
    "trained": False,
    "similarity": "euclidean",
    "temperature": 0.1,
    "shrinkage": 1.0,
    "initialisation": "data",
    "warmup_epochs": 0,
}


def _mnist() -> dict[str, Settings]:
    start: Settings = {
        "memory": {**WARM, **SHARP},
        "image": {"scale": "unit", "smooth_px": 0.0},
        "train": {"epochs": 30},
    }
    return {
        "start: cosine, tau 1/30, 5/N, k-means after 5 warm epochs, unit norm": start,
        "items from data, no warm-up": _with(start, memory={"initialisation": "data", "warmup_epochs": 0}),
        "tau 1/20, 3/N": _with(start, memory={"temperature": 1 / 20, "shrinkage": 3.0}),
        "300 items": _with(start, memory={"num_items": 300}),
        "dead items revived in the first 10 epochs": _with(start, memory={"revive_epochs": 10}),
        "no entropy term": _with(start, memory={"entropy_weight": 0.0}),
        "input noise 0.3": _with(start, train={"noise": 0.3}),
        "centred unit norm": _with(start, image={"scale": "centred"}),
        "no image scaling": _with(start, image={"scale": "none"}),
        "paper's read, no image scaling": _with(
            start,
            memory={**UNIFORM, "temperature": 1.0, "shrinkage": 1.0},
            image={"scale": "none"},
        ),
        "plain autoencoder": _with(start, **PLAIN),
        "plain autoencoder, no image scaling": _with(start, image={"scale": "none"}, **PLAIN),
        "paper's read, unit norm": _with(start, memory={**UNIFORM, "temperature": 1.0, "shrinkage": 1.0}),
        "errors smoothed by 1 px": _with(start, image={"smooth_px": 1.0}),
        "plain autoencoder, errors smoothed by 1 px": _with(start, image={"smooth_px": 1.0}, **PLAIN),
        "network `small`, errors smoothed by 1 px": {
            **_with(start, image={"smooth_px": 1.0}),
            "network": "small",
        },
    }


def _mnist_code() -> dict[str, Settings]:
    """A second round: how wide the code is, and how many items there are in it."""
    start: Settings = {}
    return {
        "start: network `small` (a code of 16 numbers), 300 items, 20 epochs, smoothed by 1 px": start,
        "plain autoencoder": _with(start, **PLAIN),
        "100 items": _with(start, memory={"num_items": 100}),
        "not sparse": _with(start, memory={"shrinkage": 0.0}),
        "the paper's network (a code of 1,024)": {**start, "network": "mnist"},
        "plain autoencoder, the paper's network": {**_with(start, **PLAIN), "network": "mnist"},
        "600 items": _with(start, memory={"num_items": 600}),
        "30 epochs": _with(start, train={"epochs": 30}),
    }


def _mnist_length() -> dict[str, Settings]:
    """How long the paper's preset trains, and at what rate: the paper says neither for images."""
    found: dict[str, Settings] = {}
    for name, method in (("plain autoencoder", PLAIN), ("MemAE", {})):
        for epochs in (30, 1, 2, 5, 10):
            start = "start: " if not found else ""
            found[f"{start}{name}, {epochs} epoch{'s' if epochs > 1 else ''}"] = {
                **method,
                "train": {"epochs": epochs},
            }
        found[f"{name}, 30 epochs at a rate of 1e-4"] = {
            **method,
            "train": {"epochs": 30, "learning_rate": 1e-4},
        }
    return found


def _cifar10() -> dict[str, Settings]:
    start: Settings = {}
    return {
        "start: `small` (a code of 16 numbers), 300 items, 20 epochs, centred, smoothed by 2 px": start,
        "errors smoothed by 1 px": _with(start, image={"smooth_px": 1.0}),
        "errors not smoothed": _with(start, image={"smooth_px": 0.0}),
        "unit norm, not centred": _with(start, image={"scale": "unit"}),
        "plain autoencoder": _with(start, **PLAIN),
        "not sparse": _with(start, memory={"shrinkage": 0.0}),
        "100 items": _with(start, memory={"num_items": 100}),
    }


def _kddcup() -> dict[str, Settings]:
    start: Settings = {
        "memory": {**UNIFORM, "temperature": 1 / 30, "shrinkage": 1.0},
        "table": {"number_scale": "minmax"},
        "train": {"epochs": 5},
    }
    return {
        "start: cosine, tau 1/30, 1/N, uniform items, 5 epochs, columns to [0, 1]": start,
        "tau 1": _with(start, memory={"temperature": 1.0}),
        "tau 1/10": _with(start, memory={"temperature": 0.1}),
        "5/N": _with(start, memory={"shrinkage": 5.0}),
        "5/N, items from data": _with(start, memory={"shrinkage": 5.0, "initialisation": "data"}),
        "k-means after 3 warm epochs": _with(start, memory={"warmup_epochs": 3, "initialisation": "kmeans"}),
        "columns to mean 0, deviation 1": _with(start, table={"number_scale": "standard"}),
        "2 epochs": _with(start, train={"epochs": 2}),
        "10 epochs": _with(start, train={"epochs": 10}),
        "20 epochs": _with(start, train={"epochs": 20}),
        "plain autoencoder": _with(start, **PLAIN),
        "plain autoencoder, 20 epochs": _with(start, train={"epochs": 20}, **PLAIN),
    }


def _kddcup_distinct() -> dict[str, Settings]:
    """A second round, on the `table` network: every row trains once, and longer."""
    start: Settings = {"memory": {"num_items": 500}}
    return {
        "start: log, each row once, 500 items, tau 1/30, 5/N, k-means after 20 of 80 epochs": start,
        "plain autoencoder": _with(start, **PLAIN),
        "columns to mean 0, deviation 1": _with(start, table={"number_scale": "standard"}),
        "columns to [0, 1]": _with(start, table={"number_scale": "minmax"}),
        "100 items": _with(start, memory={"num_items": 100}),
        "not sparse": _with(start, memory={"shrinkage": 0.0}),
        "paper's read": _with(start, memory={**UNIFORM, "temperature": 1.0, "shrinkage": 1.0}),
        "40 epochs": _with(start, train={"epochs": 40}, memory={"warmup_epochs": 10}),
        "160 epochs": _with(start, train={"epochs": 160}, memory={"warmup_epochs": 40}),
        "every row as often as it comes, as many steps": _with(
            start, table={"duplicates": "keep"}, train={"epochs": 16}, memory={"warmup_epochs": 4}
        ),
        "the paper's code of three numbers": {**start, "network": "kddcup"},
        "2000 items": _with(start, memory={"num_items": 2000}),
        "no memory while it trains; then 2000 encodings, euclidean, tau 0.1, 1/N": _with(start, memory=LOOKED_UP),
        "the same, and the network `wide`, 500 steps (the default of tables)": {
            **_with(start, memory=LOOKED_UP, train={"epochs": None, "patience": 0, "learning_rate": 1e-3}),
            "network": "wide",
        },
        "the same, 80 epochs": {**_with(start, memory=LOOKED_UP), "network": "wide"},
    }


def _kddcup_items() -> dict[str, Settings]:
    """A third round, three seeds: how many items, how sparse, and a rate that falls."""
    start: Settings = {"memory": {"num_items": 500}}
    falling = {"train": {"decay_share": 0.5}}
    many = {"memory": {"num_items": 2000}}
    return {
        "start: 500 items, 5/N, constant rate": start,
        "2000 items": _with(start, **many),
        "rate falls to zero over the last half": _with(start, **falling),
        "2000 items, rate falls": _with(start, **many, **falling),
        "2000 items, 2/N, rate falls": _with(start, memory={"num_items": 2000, "shrinkage": 2.0}, **falling),
        "500 items, 2/N, rate falls": _with(start, memory={"shrinkage": 2.0}, **falling),
        "plain autoencoder": _with(start, **PLAIN),
        "plain autoencoder, rate falls": _with(start, **PLAIN, **falling),
        "2000 items, 20/N: as sharp as 500 with 5/N": _with(start, memory={"num_items": 2000, "shrinkage": 20.0}),
        "2000 items, not sparse": _with(start, memory={"num_items": 2000, "shrinkage": 0.0}),
        "1000 items": _with(start, memory={"num_items": 1000}),
    }


def _kddcup_length() -> dict[str, Settings]:
    """A fourth round, three seeds: how much of the training goes without the memory, and how short it may be."""

    def lengths(warm: int, epochs: int, **train: Any) -> Settings:
        return {"memory": {"warmup_epochs": warm}, "train": {"epochs": epochs, **train}}

    return {
        "start: 1000 items, 80 epochs after 20 warm ones": {},
        "60 after 20 warm ones": lengths(20, 60),
        "40 after 40 warm ones": lengths(40, 40),
        "20 after 60 warm ones": lengths(60, 20),
        "40 after 60 warm ones": lengths(60, 40),
        "20 after 80 warm ones": lengths(80, 20),
        "10 after 90 warm ones": lengths(90, 10),
        "40 after 20 warm ones, twice the rate": lengths(20, 40, learning_rate=6e-3),
    }


def _ped2_read() -> dict[str, Settings]:
    """A second round: how sharp the read is."""
    brief: Settings = {"train": {"epochs": 3}, "memory": {"warmup_epochs": 1}}
    return {
        "start: tau 1/30, 5/N, 3 epochs after a warm one": brief,
        "tau 1/20, 2/N": _with(brief, memory={"temperature": 1 / 20, "shrinkage": 2.0}),
        "plain autoencoder": _with(brief, **PLAIN),
        "tau 1/50, 10/N": _with(brief, memory={"temperature": 1 / 50, "shrinkage": 10.0}),
    }


def _ped2_size() -> dict[str, Settings]:
    """How large a network, and how large the frames that it sees: what a ranking costs to learn and to serve."""
    brief: Settings = {"train": {"epochs": 3}, "memory": {"warmup_epochs": 1}}
    return {
        "start: 48 and 96 channels, 128 x 192 px, 3 epochs after a warm one": brief,
        "24 and 48 channels": _with(brief, video={"channels": [24, 48]}),
        "24 and 48 channels, 7 epochs after a warm one": _with(
            brief, video={"channels": [24, 48]}, train={"epochs": 7}
        ),
        "96 and 192 channels": _with(brief, video={"channels": [96, 192]}),
        "96 x 144 px, crops of 32 and places of 12 px": _with(
            brief, video={"height": 96, "width": 144, "crop_px": 32, "place_px": 12}
        ),
        "192 x 288 px, crops of 72 and places of 24 px": _with(
            brief, video={"height": 192, "width": 288, "crop_px": 72, "place_px": 24}
        ),
        "whole frames instead of crops, every 8th clip": _with(
            brief, video={"crop_px": None, "training_stride": 8}, train={"batch_size": 2}
        ),
    }


def _tables() -> dict[str, Settings]:
    start: Settings = {
        "memory": {**UNIFORM, "temperature": 1.0, "shrinkage": 1.0},
        "table": {"number_scale": "standard"},
        "train": {"epochs": 200, "patience": 20},
    }
    return {
        "start: cosine, tau 1, 1/N, uniform items, at most 200 epochs, patience 20": start,
        "tau 1/10": _with(start, memory={"temperature": 0.1}),
        "tau 1/30": _with(start, memory={"temperature": 1 / 30}),
        "tau 1/30, k-means after 20 warm epochs": _with(
            start, memory={"temperature": 1 / 30, "warmup_epochs": 20, "initialisation": "kmeans"}
        ),
        "200 items": _with(start, memory={"num_items": 200}),
        "input noise 0.2": _with(start, train={"noise": 0.2}),
        "columns to [0, 1]": _with(start, table={"number_scale": "minmax"}),
        "batches of 256, at most 100 epochs, patience 10": _with(
            start, train={"epochs": 100, "batch_size": 256, "patience": 10}
        ),
        "plain autoencoder": _with(start, **PLAIN),
        "plain autoencoder, input noise 0.2": _with(start, train={"noise": 0.2}, **PLAIN),
        "untrained": _with(start, train={"epochs": 0}),
    }


def _tables_2() -> dict[str, Settings]:
    """A second round: what makes a look-up strong (all rows, as they are), and what the network adds to it."""
    start: Settings = {}
    return {
        "start: code as wide as the columns, 500 steps as an autoencoder, then up to 2000 encodings as items, "
        "euclidean, tau 0.1, 1/N": start,
        "batches of 128": _with(start, train={"batch_size": 128}),
        "tau 0.4": _with(start, memory={"temperature": 0.4}),
        "rate falls to zero over the last half": _with(start, train={"decay_share": 0.5}),
        "100 epochs: 300 steps on the smallest table, 5000 on the largest": _with(start, train={"epochs": 100}),
        "plain autoencoder": _with(start, **PLAIN),
        "the memory trains: 5 warm epochs, then at least 500 steps through it": _with(
            start, memory={"trained": True, "warmup_epochs": 5}
        ),
        "untrained": _with(start, train={"epochs": 0}),
        "tau 0.02": _with(start, memory={"temperature": 0.02}),
        "200 items": _with(start, memory={"num_items": 200}),
        "200 items, k-means": _with(start, memory={"num_items": 200, "initialisation": "kmeans"}),
        "cosine, tau 1/30": _with(start, memory={"similarity": "cosine", "temperature": 1 / 30}),
        "not sparse": _with(start, memory={"shrinkage": 0.0}),
        "code of a quarter of the columns (network `table`)": {**start, "network": "table"},
        "input noise 0.3": _with(start, train={"noise": 0.3}),
        "logarithm of the columns": _with(start, table={"number_scale": "log"}),
        "columns to [0, 1]": _with(start, table={"number_scale": "minmax"}),
        "before: network `table`, 50 uniform items, cosine, tau 1, at most 200 epochs, patience 20": {
            "network": "table",
            "memory": {**UNIFORM, "similarity": "cosine", "temperature": 1.0, "shrinkage": 1.0, "trained": True},
            "train": {"epochs": 200, "patience": 20, "validation_share": 0.1},
        },
    }


def _ped2() -> dict[str, Settings]:
    brief: Settings = {
        "train": {"epochs": 3},
        "memory": {"warmup_epochs": 1, "temperature": 1 / 20, "shrinkage": 2.0},
    }
    return {
        "start: tau 1/20, 2/N, 3 epochs after a warm one": brief,
        "plain autoencoder": _with(brief, **PLAIN),
        "not sparse": _with(brief, memory={"shrinkage": 0.0}),
        "frames instead of differences": _with(brief, video={"input": "frames"}),
        "mean error of the frame": _with(brief, video={"score": "mean"}),
        "whole frames instead of crops, every 8th clip": _with(
            brief, video={"crop_px": None, "training_stride": 8}, train={"batch_size": 2}
        ),
        "input noise 0.3": _with(brief, train={"noise": 0.3}),
        "300 items": _with(brief, memory={"num_items": 300}),
        "untrained": {"train": {"epochs": 0}},
    }


def _defects() -> dict[str, Settings]:
    """What of an error map is the score of its image; for the keys see `synthetic_defects.auroc_by_extent`."""
    return {
        "start: mean of the map": {"smoothing": 0, "top_share": 1},
        "its greatest pixel": {"smoothing": 0, "top_share": 0},
        "mean of its greatest 1 %": {"smoothing": 0, "top_share": 0.01},
        "smoothed by 1/64 of the side, greatest": {"smoothing": 1 / 64, "top_share": 0},
        "smoothed by 1/64, mean of the greatest 1 %": {"smoothing": 1 / 64, "top_share": 0.01},
        "smoothed by 1/64, mean of the greatest 5 %": {"smoothing": 1 / 64, "top_share": 0.05},
        "smoothed by 1/32, greatest": {"smoothing": 1 / 32, "top_share": 0},
        "smoothed by 1/16, greatest": {"smoothing": 1 / 16, "top_share": 0},
        "smoothed by 1/64, greatest, network `scene`": {"smoothing": 1 / 64, "top_share": 0, "network": "scene"},
        "the same, errors as multiples of the mean training error": {
            "smoothing": 1 / 64,
            "top_share": 0,
            "network": "scene",
            "relative": True,
        },
    }


def _defects_256() -> dict[str, Settings]:
    """The networks for images of 256 px, with the score as served and one that is smoothed more."""
    served, smoother = (
        {"smoothing": 1 / 64, "top_share": 0, "side": 256},
        {"smoothing": 1 / 32, "top_share": 0, "side": 256},
    )
    relative = {**served, "relative": True}
    found: dict[str, Settings] = {}
    for seed in (0, 1):
        for network in ("scene", "image"):
            for way, note in ((served, ""), (smoother, ", smoothed by 1/32")):
                found[f"network `{network}`{note}, seed {seed}"] = {**way, "network": network, "seed": seed}
    for seed in (0, 1):
        for network in ("scene", "image"):
            name = f"network `{network}`, errors as multiples of the mean training error, seed {seed}"
            found[name] = {**relative, "network": network, "seed": seed}
    for seed in (0, 1):  # the rows before had a wider decoder
        name = f"the same, network `scene` whose decoder mirrors the layers, seed {seed}"
        found[name] = {**relative, "network": "scene", "seed": seed}
    for seed in (0, 1):  # the rows before are of another machine, on which a training ends elsewhere
        for patch_px, errors in ((1, "pixel by pixel"), (4, "patches of 4 px")):
            name = f"the same on another machine, {errors}, seed {seed}"
            found[name] = {**relative, "network": "scene", "seed": seed, "patch_px": patch_px}
    return found


VARIANTS: dict[str, Callable[[], dict[str, Settings]]] = {
    "mnist": _mnist,
    "mnist-code": _mnist_code,
    "mnist-length": _mnist_length,
    "cifar10": _cifar10,
    "kddcup99": _kddcup,
    "kddcup99-distinct": _kddcup_distinct,
    "kddcup99-items": _kddcup_items,
    "kddcup99-length": _kddcup_length,
    "tables": _tables,
    "tables-2": _tables_2,
    "ped2": _ped2,
    "ped2-read": _ped2_read,
    "ped2-size": _ped2_size,
    "defects": _defects,
    "defects-256": _defects_256,
}


def _with(start: Settings, **sections: Mapping[str, Any]) -> Settings:
    return {key: {**start.get(key, {}), **sections.get(key, {})} for key in {**start, **sections}}
