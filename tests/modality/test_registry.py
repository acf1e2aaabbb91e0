"""The paper's networks layer by layer, and the numbers of every preset."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from memae.config import Config, MemoryConfig, override
from memae.errors import ConfigError, DataError
from memae.image.config import ImageConfig
from memae.memory.memae import MemAE, MemAESettings
from memae.modality import build, modalities, modality_of, preset_config
from memae.video.config import VideoConfig

IMAGES = ("mnist", "cifar10", "image", "scene", "small", "features")
TABLES = ("kddcup", "table", "wide")
VIDEOS = ("video", "video-paper", "unet", "unet-late")
NETWORKS = [network for modality in modalities() for network in modality.networks]
LEARNING = [
    network for network in NETWORKS if network != "features"
]  # which is frozen: tests/image/test_features.py
NAMED = [network for network in NETWORKS if "-" not in network]  # others read as a network and a variant
MODALITY = {name: "image" if name in IMAGES else "table" if name in TABLES else "video" for name in NETWORKS}
SHAPE = {"image": (1, 12, 12), "table": (9,), "video": (1, 4, 16, 16)}


def of_shape(config: Config) -> Config:
    """The same settings for samples of `SHAPE`."""
    if config.kind != "video":
        return config
    return override(config, {"video": {"clip_length": 4, "height": 16, "width": 16}}, "test")


def test_every_network_is_for_one_kind_of_data() -> None:
    assert set(NETWORKS) == {*IMAGES, *TABLES, *VIDEOS}
    assert {network: modality_of(network).name for network in NETWORKS} == MODALITY


def convolutions(
    network: nn.Module, kind: type[nn.Conv2d] | type[nn.ConvTranspose2d]
) -> list[tuple[int, int, int, int]]:
    """(kernel, stride, in, out) of each layer."""
    found = [layer for layer in network.modules() if isinstance(layer, kind)]
    assert all(c.kernel_size[0] == c.kernel_size[1] and c.stride[0] == c.stride[1] for c in found)
    return [(c.kernel_size[0], c.stride[0], c.in_channels, c.out_channels) for c in found]


def kinds(network: nn.Module) -> list[str]:
    """The names of torch's layers, or of those that ours are made from."""
    return [
        next(c.__name__ for c in type(stage).__mro__ if c.__module__.startswith("torch"))
        for stage in network.children()
    ]


def test_mnist_is_the_network_of_the_paper() -> None:
    model = build(preset_config("mnist-paper", "image"), (1, 28, 28))
    assert convolutions(model.encoder, nn.Conv2d) == [(1, 2, 1, 16), (3, 2, 16, 32), (3, 2, 32, 64)]
    # Dconv(3, 2, 64)-(3, 2, 32)-(3, 2, 1)
    assert convolutions(model.decoder, nn.ConvTranspose2d) == [(3, 2, 64, 64), (3, 2, 64, 32), (3, 2, 32, 1)]
    assert kinds(model.encoder) == ["Conv2d", "BatchNorm2d", "ReLU"] * 3
    assert kinds(model.decoder) == ["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 2 + ["ConvTranspose2d"]
    assert model.memory.items.shape == (100, 1024)
    assert model.query == "whole"
    made = model(torch.zeros(2, 1, 28, 28))
    assert made.x.shape == (2, 1, 28, 28)
    assert made.read.weights.shape == (2, 1, 100)


def test_cifar10_is_the_network_of_the_paper() -> None:
    model = build(preset_config("cifar10-paper", "image"), (3, 32, 32))
    assert convolutions(model.encoder, nn.Conv2d) == [
        (3, 2, 3, 64),
        (3, 2, 64, 128),
        (3, 2, 128, 128),
        (3, 2, 128, 256),
    ]
    assert convolutions(model.decoder, nn.ConvTranspose2d) == [
        (3, 2, 256, 256),
        (3, 2, 256, 128),
        (3, 2, 128, 128),
        (3, 2, 128, 3),
    ]
    assert kinds(model.encoder) == ["Conv2d", "BatchNorm2d", "ReLU"] * 4
    assert kinds(model.decoder) == ["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 3 + ["ConvTranspose2d"]
    assert model.memory.items.shape == (500, 1024)
    assert model(torch.zeros(2, 3, 32, 32)).x.shape == (2, 3, 32, 32)


def test_kddcup_is_the_network_of_the_paper() -> None:
    model = build(preset_config("kddcup-paper", "table"), (120,))
    widths = [
        [(s.in_features, s.out_features) for s in half.modules() if isinstance(s, nn.Linear)]
        for half in (model.encoder, model.decoder)
    ]
    assert widths == [[(120, 60), (60, 30), (30, 10), (10, 3)], [(3, 10), (10, 30), (30, 60), (60, 120)]]
    for half in (model.encoder, model.decoder):
        assert kinds(half) == ["Linear", "Tanh"] * 3 + ["Linear"]
    assert model.memory.items.shape == (50, 3)
    assert model(torch.zeros(5, 120)).x.shape == (5, 120)


@pytest.mark.parametrize("network", [network for network in IMAGES if network in LEARNING])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (27, 28), (33, 64), (100, 37), (65, 4)])
def test_every_image_network_rebuilds_any_size(network: str, channels: int, size: tuple[int, int]) -> None:
    model = build(preset_config(network, "image"), (channels, *size)).eval()
    with torch.no_grad():
        made = model(torch.rand(1, channels, *size))
    assert made.x.shape == (1, channels, *size)
    assert made.x.isfinite().all()


@pytest.mark.parametrize("features", [1, 2, 7, 40, 500])
@pytest.mark.parametrize("network", ["table-paper", "wide", "kddcup"])
def test_every_table_network_rebuilds_any_width(network: str, features: int) -> None:
    model = build(preset_config(network, "table"), (features,))
    assert model(torch.rand(3, features)).x.shape == (3, features)


def test_the_table_network_narrows_to_a_quarter_of_the_columns() -> None:
    for features, code in [(4, 3), (20, 5), (40, 10), (500, 16)]:
        model = build(preset_config("table-paper", "table"), (features,))
        assert model.memory.items.shape == (50, code)
        widths = [stage.out_features for stage in model.encoder.modules() if isinstance(stage, nn.Linear)]
        assert widths == sorted(widths, reverse=True)


def test_the_wide_network_has_a_code_of_as_many_numbers_as_columns() -> None:
    for features, code in [(4, 8), (20, 20), (500, 64)]:
        model = build(preset_config("table", "table"), (features,))
        assert [stage.out_features for stage in model.encoder.modules() if isinstance(stage, nn.Linear)] == [
            max(64, min(128, 2 * features)),
            code,
        ]
        assert model.memory.items.shape == (2000, code)


def test_a_memory_that_is_not_trained_has_no_more_items_than_there_are_samples() -> None:
    for samples, items in [(30, 30), (5000, 2000)]:
        assert build(preset_config("table", "table"), (9,), samples).memory.num_items == items
    learnt = override(preset_config("table", "table"), {"memory": {"trained": True}}, "test")
    assert build(learnt, (9,), 30).memory.num_items == 2000


@pytest.mark.parametrize("size", [(4, 4), (28, 28), (64, 37)])
def test_up_to_64_px_a_scene_is_the_network_image(size: tuple[int, int]) -> None:
    models = []
    for network in ("image", "scene"):
        torch.manual_seed(0)
        models.append(build(override(preset_config("image", "image"), {"network": network}, "test"), (1, *size)))
    assert preset_config("image", "image").network == "scene"
    image, scene = (model.state_dict() for model in models)
    assert list(image) == list(scene)
    assert all(torch.equal(image[name], scene[name]) for name in image)


def test_above_64_px_a_scene_is_folded() -> None:
    model = build(preset_config("image", "image"), (3, 256, 256)).eval()
    assert convolutions(model.encoder, nn.Conv2d) == [(3, 2, 48, 32), (3, 2, 32, 64), (3, 2, 64, 128)]
    assert convolutions(model.decoder, nn.ConvTranspose2d) == [(3, 2, 128, 64), (3, 2, 64, 32), (3, 2, 32, 48)]
    assert model(torch.rand(1, 3, 256, 256)).positions == (8, 8)
    paper = build(preset_config("image-paper", "image"), (3, 256, 256))
    assert convolutions(paper.encoder, nn.Conv2d)[0] == (3, 2, 3, 32)


def test_a_scene_takes_a_fifteenth_of_the_work() -> None:
    work = {}
    for network in ("image", "scene"):
        model = build(override(preset_config("image", "image"), {"network": network}, "test"), (3, 256, 256))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(torch.rand(1, 3, 256, 256))
        work[network] = counter.get_total_flops()
    assert 1.3e9 < work["image"] < 1.6e9
    assert work["scene"] < work["image"] / 15


def test_large_images_are_asked_about_place_by_place_and_small_ones_as_a_whole() -> None:
    small = build(preset_config("image", "image"), (1, 64, 64))
    assert (small.query, small.memory.item_dim) == ("whole", 128 * 4 * 4)
    large = build(preset_config("image", "image"), (1, 64, 65))
    assert (large.query, large.memory.item_dim) == ("position", 128)
    read = large.eval()(torch.rand(1, 1, 64, 65)).read
    assert read.weights.shape == (1, 6, 100)
    asked = override(preset_config("mnist-paper", "image"), {"memory": {"query": "position"}}, "test")
    assert build(asked, (1, 28, 28)).memory.items.shape == (100, 64)


@pytest.mark.parametrize("network", LEARNING)
def test_a_memory_that_is_not_enabled_leaves_the_plain_autoencoder(network: str) -> None:
    plain = override(preset_config(network, MODALITY[network]), {"memory": {"enabled": False}}, "test")
    config, shape = of_shape(plain), SHAPE[MODALITY[network]]
    torch.manual_seed(0)
    model = build(config, shape).eval()
    assert model.memory is None
    x = torch.rand(2, *shape)
    made = model(x)
    assert made.read is None
    encoded = model.encoder(x)
    parts = encoded if isinstance(encoded, tuple) else (encoded,)  # with skips
    assert torch.equal(made.x, model.decoder(*parts))


def test_the_memory_takes_its_numbers_from_the_config() -> None:
    words = {"memory": {"num_items": 7, "similarity": "dot", "temperature": 0.5, "shrinkage": 2.0}}
    memory = build(override(preset_config("table-paper", "table"), words, "test"), (9,)).memory
    assert (memory.num_items, memory.similarity, memory.temperature, memory.shrinkage) == (7, "dot", 0.5, 2.0)


# What a variant fixes. The length of training is ours for all of them, and chosen by measurement.
PAPER = {
    "memory": {"similarity": "cosine", "temperature": 1.0, "shrinkage": 1.0, "entropy_weight": 2e-4},
    "train": {"reduction": "sum", "patience": 0},
}
RELEASED = {
    "memory": {
        "similarity": "dot",
        "temperature": 1.0,
        "shrinkage": 5.0,
        "entropy_weight": 2e-4,
    },  # 0.0025 at N = 2000 is 5/N
    "train": {"reduction": "mean", "patience": 0},
}
SCALES = {"image": ("scale", "none"), "table": ("number_scale", "minmax"), "video": ("input", "frames")}


@pytest.mark.parametrize("network", [network for network in NAMED if network in LEARNING])
@pytest.mark.parametrize(("variant", "fixed"), [("paper", PAPER), ("released", RELEASED)])
def test_the_variants_of_every_network_have_the_published_numbers(
    network: str, variant: str, fixed: dict[str, Any]
) -> None:
    config = preset_config(f"{network}-{variant}", MODALITY[network])
    found = config.model_dump()
    for section, values in fixed.items():
        assert {key: found[section][key] for key in values} == values
    key, scale = SCALES[config.kind]
    assert found[config.kind][key] == scale
    # neither has a data start, a warm-up, revival or noise
    plain = MemoryConfig()
    assert config.memory.initialisation == plain.initialisation == "uniform"
    assert config.memory.warmup_epochs == config.memory.revive_epochs == config.train.noise == 0
    assert config.memory.enabled
    assert config.train.decay_share == 0
    if network in ("video", "mnist", "cifar10", "kddcup", "table", "wide"):  # our default is another network
        return
    if network == "small":  # our default trains for as long as the data needs
        return
    ours = preset_config(network, MODALITY[network])
    for key in ("epochs", "batch_size", "learning_rate", "precision"):
        assert getattr(config.train, key) == getattr(ours.train, key)


@pytest.mark.parametrize("network", NAMED)
@pytest.mark.parametrize("variant", ["", "-paper", "-released"])
def test_every_preset_lets_an_item_pass_the_shrinkage(network: str, variant: str) -> None:
    config = preset_config(network + variant, MODALITY[network])
    others = {"mnist": "small", "cifar10": "small", "image": "scene", "kddcup": "table", "table": "wide"}
    ours = others.get(network, network)
    assert config.network == ("video-paper" if network == "video" and variant else network if variant else ours)
    memory = config.memory
    assert isinstance(memory, MemAESettings)
    assert memory.shrinkage < built_items(config)
    if memory.similarity == "cosine":  # logits lie within 2 / temperature: no weight is above exp(that) / N
        assert memory.shrinkage < math.exp(2 / memory.temperature)


@pytest.mark.parametrize(("network", "items"), [("mnist", 100), ("cifar10", 500), ("kddcup", 50)])
@pytest.mark.parametrize("variant", ["-paper", "-released"])
def test_every_variant_has_the_memory_size_of_the_paper(network: str, variant: str, items: int) -> None:
    assert built_items(preset_config(network + variant, MODALITY[network])) == items


def test_a_small_network_ends_in_a_narrow_code_and_sees_every_pixel() -> None:
    small, image = (build(preset_config(name, "image"), (1, 28, 28)) for name in ("small", "image"))
    assert convolutions(small.encoder, nn.Conv2d) == [
        (3, 2, 1, 16),
        (3, 2, 16, 32),
        (3, 2, 32, 64),
        (3, 2, 64, 64),
        (3, 2, 64, 16),
    ]
    assert convolutions(image.encoder, nn.Conv2d) == [(3, 2, 1, 32), (3, 2, 32, 64), (3, 2, 64, 128)]
    pixels = torch.rand(1, 1, 28, 28, requires_grad=True)
    code = small.eval().encoder(pixels)
    code.sum().backward()
    assert code.shape == (1, 16, 1, 1)
    assert (pixels.grad != 0).float().mean() > 0.9


@pytest.mark.parametrize("size", [(4, 4), (5, 9), (28, 20), (33, 64)])
def test_a_small_image_of_any_size_is_rebuilt_at_its_size(size: tuple[int, int]) -> None:
    model = build(preset_config("small", "image"), (3, *size)).eval()
    rebuilt = model(torch.rand(2, 3, *size))
    assert rebuilt.x.shape == (2, 3, *size)
    assert model.memory.items.shape == (300, 16)


def built_items(config: Config) -> int:
    return build(of_shape(config), SHAPE[MODALITY[config.network]]).memory.num_items


@pytest.mark.parametrize("modality", ["image", "table", "video"])
def test_a_bare_variant_and_no_name_at_all_take_the_network_of_the_data(modality: str) -> None:
    assert preset_config(None, modality) == preset_config(modality, modality)
    for variant in ("paper", "released"):
        assert preset_config(variant, modality) == preset_config(f"{modality}-{variant}", modality)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("mnits", "mnist"),
        ("mnist-papr", "mnist-paper"),
        ("tabel", "table"),
        ("relesed", "released"),
        ("vidoe", "video"),
        ("video-papr", "video-paper"),
    ],
)
def test_an_unknown_preset_suggests_the_close_one(name: str, close: str) -> None:
    with pytest.raises(ConfigError, match=f"preset '{name}' is unknown; did you mean '{close}'") as caught:
        preset_config(name, "table" if "ta" in close else "image")
    assert f"networks: {', '.join(NAMED)}; each also with -paper or -released" in str(caught.value)


@pytest.mark.parametrize("name", ["", "xyzzy", "mnist-paper-released", "mnist-paper-", "paper-released"])
@pytest.mark.parametrize("modality", ["image", "video"])
def test_a_preset_that_resembles_nothing_is_refused(name: str, modality: str) -> None:
    with pytest.raises(ConfigError, match=f"preset '{name}' is unknown"):
        preset_config(name, modality)


@pytest.mark.parametrize(
    ("network", "other"), [(network, other) for network in NAMED for other in SHAPE if other != MODALITY[network]]
)
def test_a_network_for_other_data_is_refused(network: str, other: str) -> None:
    with pytest.raises(ConfigError, match=f"'{network}-paper' is for {MODALITY[network]}s, .* set of {other}s"):
        preset_config(f"{network}-paper", other)


@pytest.mark.parametrize("shrinkage", [50.0, 60.0])
def test_a_shrinkage_that_is_not_below_the_items_is_refused(shrinkage: float) -> None:
    config = override(preset_config("table-paper", "table"), {"memory": {"shrinkage": shrinkage}}, "test")
    with pytest.raises(ConfigError, match=f"memory.shrinkage = {shrinkage:g} .* memory.num_items = 50"):
        build(config, (9,))
    build(override(config, {"memory": {"num_items": 61}}, "test"), (9,))


@pytest.mark.parametrize("size", [(3, 28), (28, 3), (1, 1)])
def test_an_image_too_small_for_any_network_is_refused(size: tuple[int, int]) -> None:
    for network in IMAGES:
        with pytest.raises(DataError, match=f"{size[0]} x {size[1]} px are too small.* 4 x 4"):
            build(preset_config(network, "image"), (1, *size))


def test_the_weights_come_from_the_global_generator() -> None:
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(build(preset_config("table", "table"), (9,)).state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert not torch.equal(models[0]["memory.items"], models[2]["memory.items"])


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_variants_of_video_are_of_the_network_of_the_paper(variant: str) -> None:
    config = preset_config(variant, "video")
    assert config == preset_config(f"video-{variant}", "video")
    assert config.network == "video-paper"
    video = VideoConfig.of(config)
    assert (video.clip_length, video.height, video.width, video.dilation) == (16, 256, 256, 1)
    assert (video.input, video.score, video.crop_px, video.training_stride) == ("frames", "mean", None, 1)
    assert preset_config("paper", "image").network == "image"
    assert preset_config("paper", "table").network == "table"


def test_the_channels_of_a_network_for_video_may_be_others() -> None:
    video = preset_config("video", "video")
    narrow = build(override(video, {"video": {"channels": [8, 12]}}, "test"), (1, 16, 64, 96))
    convolutions = [layer for layer in narrow.modules() if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)]
    assert [(layer.in_channels, layer.out_channels) for layer in convolutions] == [
        (16, 8),
        (8, 12),
        (12, 8),
        (8, 16),
    ]
    assert isinstance(narrow.memory, MemAE)
    assert narrow.memory.items.shape == (500, 12)
    with pytest.raises(ConfigError, match=r"video\.channels = \[8\]: network 'video' has 2 layers; .* \[48, 96\]"):
        build(override(video, {"video": {"channels": [8]}}, "test"), (1, 16, 64, 96))
    with pytest.raises(ConfigError, match=r"video\.channels"):
        override(video, {"video": {"channels": [8, 0]}}, "test")


def test_the_default_for_video_is_a_network_of_its_own() -> None:
    config = preset_config(None, "video")
    assert config == preset_config("video", "video")
    assert config.network == "video"
    assert built_items(config) == 500
    # the network by its own name is what settings may ask for
    assert preset_config(config.network, "video") == config


@pytest.mark.parametrize(
    ("name", "shape", "pool"),
    [
        (None, (1, 28, 28), "mean"),
        (None, (3, 64, 64), "mean"),
        (None, (3, 64, 65), "max"),
        ("image-paper", (3, 128, 128), "mean"),
        ("mnist", (1, 128, 128), "mean"),
        ("cifar10", (3, 128, 128), "mean"),
        ("small", (3, 128, 128), "mean"),
    ],
)
def test_larger_images_are_scored_by_their_worst_place(
    name: str | None, shape: tuple[int, ...], pool: str
) -> None:
    config = preset_config(name, "image")
    resolved = ImageConfig.of(modality_of("image").resolve(config, shape))
    assert resolved.pool == pool
    assert resolved.relative is (pool == "max")
    assert resolved.patch_px == (4 if pool == "max" else 1)
    whole = override(
        config, {"image": {"pool": "mean", "patch_px": 1, "relative": False, "filters": False}}, "test"
    )
    assert modality_of("image").resolve(whole, shape) == whole


def test_a_small_tile_is_a_place_and_no_thing() -> None:
    config = override(preset_config(None, "image"), {"image": {"tile_px": 32}}, "test")
    assert ImageConfig.of(modality_of("image").resolve(config, (1, 32, 32))).pool == "max"
    assert build(config, (1, 32, 32)).query == "position"
