"""The settings of video and every number of its networks and presets.

Networks: `video-paper` is the paper's; `video` trains on a CPU too, and is our default. The variants "paper" and
"released" take the paper's network. `unet` and `unet-late` are those of MNAD and MPN, which predict
(`memae.video.unet`); the presets `mnad-paper`, `mnad-released`, `mpn`, `mnad-small` and `mpn-small` take them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any, Literal

from pydantic import Field, PositiveInt

from memae.config import Config, KindSettings
from memae.errors import ConfigError
from memae.memory.published import PUBLISHED
from memae.video.networks import ClipLayer
from memae.video.preprocess import ClipInput
from memae.video.unet import UNet

__all__ = [
    "CLIP_LAYERS",
    "NETWORKS",
    "NORMS",
    "NUM_ITEMS",
    "PATCH_PX",
    "PRESETS",
    "UNETS",
    "DistanceForm",
    "VideoConfig",
    "check_sides",
    "layers_of",
    "preset",
    "unet_of",
]

FrameScore = Literal["mean", "place", "psnr"]
Task = Literal["reconstruct", "predict"]
DistanceForm = Literal["mean", "square", "decibel"]
UNETS = ("unet", "unet-late")
NETWORKS = ("video", "video-paper", *UNETS)
NUM_ITEMS = {"video": 500, "video-paper": 2000, "unet": 500, "unet-late": 500}
"""N of each network where memory.num_items is left open."""
CLIP_LAYERS = {
    "video-paper": (
        ClipLayer((1, 2, 2), 96),
        ClipLayer((2, 2, 2), 128),
        ClipLayer((2, 2, 2), 256),
        ClipLayer((2, 2, 2), 256),
    ),
    "video": (ClipLayer((2, 1, 1), 48), ClipLayer((2, 2, 2), 96)),
}
PATCH_PX = {"video-paper": 1, "video": 4}
"""Side of the patches, px, that become channels before the first layer."""
# BatchNorm learns the still background, which is most of a clip, and drowns what moves: see docs/trials
NORMS = {"video-paper": True, "video": False, "unet": True, "unet-late": False}
UNET_CHANNELS = (64, 128, 256, 512)
SMALL_CHANNELS = (16, 32, 64, 128)


class VideoConfig(KindSettings):
    """How video becomes clips, and clips become scores."""

    kind = "video"
    plural = "videos"

    height: int = Field(256, ge=8, description="of the frames that the network sees, px")
    width: int = Field(256, ge=8, description="the same, px")
    channels: list[PositiveInt] | None = Field(
        None, description="of each layer of the encoder, mirrored by the decoder; unset: the network's own"
    )
    task: Task = Field(
        "reconstruct",
        description="'reconstruct' a clip, or 'predict' its last frame from those before it (network 'unet')",
    )
    clip_length: int = Field(16, ge=1, description="frames in a clip, with the one that is predicted")
    dilation: int = Field(1, ge=1, description="frames from one frame of a clip to the next")
    training_stride: int = Field(
        1, ge=1, description="frames from the start of a training clip to that of the next"
    )
    crop_px: int | None = Field(
        None, ge=8, description="side of the crops to train on, taken where something moves; unset: whole frames"
    )
    crops_per_clip: int = Field(4, ge=1, description="crops from each training clip")
    stride: int = Field(
        16,
        ge=1,
        description="frames from clip to clip while scoring: 1 scores each frame in the middle of a clip of its own, "
        "clip_length is fastest",
    )
    latest: bool = Field(
        False,
        description="a clip gives the scores of its last `stride` frames, not of those in its middle, so that a "
        "camera's frame is scored `stride` frames later at most",
    )
    input: ClipInput = Field(
        "frames", description="what is reconstructed: 'frames', or 'differences' of consecutive frames"
    )
    steady: bool = Field(
        False, description="scoring takes the shaking of the camera out of 'differences', up to a few px per frame"
    )
    score: FrameScore = Field(
        "mean",
        description="score of a frame: 'mean' of its squared error (paper), 'place', the root mean squared error "
        "of the worst place, or 'psnr', the PSNR beside the distance of its queries to the nearest items (MNAD, MPN)",
    )
    psnr_weight: float = Field(
        0.6, ge=0, le=1, description="share of the PSNR in the score 'psnr'; the distance has the rest"
    )
    distance: DistanceForm = Field(
        "mean",
        description="in the score 'psnr': the 'mean' distance (MNAD), the mean 'square' (its released code), or the "
        "mean in 'decibel' (MPN)",
    )
    place_px: int = Field(8, ge=1, description="side of a place, px of the resized frame")
    appearance: bool = Field(
        False,
        description="beside the network, a background memory for each place of a fixed camera, which sees what stands "
        "still; it needs held-out video",
    )
    worst_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="the score 'place' is the mean over this share of the places, the worst ones: 0 is the worst place "
        "alone and finds the smallest objects, more is steadier",
    )


# Ours, tuned on validation data; every trial is in docs/trials.
DEFAULT: Mapping[str, Mapping[str, Any]] = {
    "memory": {
        "similarity": "cosine",
        "temperature": 1 / 30,
        "shrinkage": 5.0,
        "initialisation": "kmeans",
        "warmup_epochs": 8,
    },
    "video": {"input": "differences", "steady": True, "score": "place", "appearance": True},
}
TRAINING: Mapping[str, Mapping[str, Any]] = {
    "video": {
        "epochs": 20,
        "batch_size": 16,
        "learning_rate": 2e-3,
        "decay_share": 0.5,
        "precision": "bf16",
        "validation_share": 0.0,
    },
    # the released code: 100 epochs, batches of 10 to 14, no schedule
    "video-paper": {"epochs": 100, "batch_size": 14, "learning_rate": 1e-4, "precision": "bf16"},
    # MNAD's rate falls by a cosine, ours in a line
    "unet": {"epochs": 60, "batch_size": 4, "learning_rate": 2e-4, "decay_share": 1.0, "reduction": "mean"},
    "unet-late": {"epochs": 60, "batch_size": 4, "learning_rate": 1e-4, "reduction": "mean"},
}
_PREDICTED: Mapping[str, Any] = {
    "height": 256,
    "width": 256,
    "task": "predict",
    "clip_length": 5,
    "stride": 1,
    "score": "psnr",
}
FRAMES: Mapping[str, Mapping[str, Any]] = {
    "video": {
        "height": 128,
        "width": 192,
        "training_stride": 2,
        "crop_px": 48,
        "place_px": 16,
        "worst_share": 0.05,
        "stride": 8,
    },
    "video-paper": {"height": 256, "width": 256, "training_stride": 1, "stride": 16},
    "unet": _PREDICTED,
    "unet-late": {**_PREDICTED, "psnr_weight": 0.5, "distance": "decibel"},
}


def _mnad(variant: str, **video: Any) -> dict[str, Any]:
    """MNAD's prediction; the weights of its penalties are ten times those of its reconstruction."""
    released = variant == "released"
    return {
        "network": "unet",
        "train": {**TRAINING["unet"], "reduction": "mean" if released else "sum"},
        "memory": {"kind": "mnad", "variant": variant, "compactness_weight": 0.1, "separateness_weight": 0.1},
        "video": {**FRAMES["unet"], "distance": "square" if released else "mean", **video},
    }


def _mpn(**video: Any) -> dict[str, Any]:
    return {
        "network": "unet-late",
        "train": TRAINING["unet-late"],
        "memory": {"kind": "mpn"},
        "video": {**FRAMES["unet-late"], **video},
    }


_SMALL: Mapping[str, Any] = {"height": 128, "width": 128, "channels": list(SMALL_CHANNELS)}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "mnad-paper": _mnad("paper"),
    "mnad-released": _mnad("released"),
    "mpn": _mpn(),
    "mnad-small": _mnad("paper", **_SMALL),
    "mpn-small": _mpn(**_SMALL),
    "unet-late": {**_mpn(), "memory": DEFAULT["memory"]},
}
"""Published methods of video with their own network; -small has a quarter of the channels and half of the sides."""


def preset(network: str, variant: str) -> dict[str, Any]:
    """The nested settings of a network in a variant: "default", "paper" or "released"."""
    if variant in PUBLISHED:
        published = PUBLISHED[variant]
        if network in UNETS:  # another paper's network with the memory of MemAE
            train = {**TRAINING[network], "decay_share": 0.0, **published["train"]}
            return {"network": network, "train": train, "memory": published["memory"], "video": FRAMES[network]}
        train = {**TRAINING["video-paper"], **published["train"]}
        return {
            "network": "video-paper",
            "train": train,
            "memory": published["memory"],
            "video": FRAMES["video-paper"],
        }
    settings = {"network": network, "train": TRAINING[network], "video": FRAMES[network]}
    if network in UNETS:
        settings |= {"memory": DEFAULT["memory"]}
    if network == "video":
        settings |= {"memory": DEFAULT["memory"], "video": {**FRAMES[network], **DEFAULT["video"]}}
    return settings


def layers_of(network: str, settings: VideoConfig) -> tuple[ClipLayer, ...]:
    """The layers of the encoder, with the channels that the settings name.

    Raises:
        ConfigError: as many channels as there are no layers.
    """
    layers, channels = CLIP_LAYERS[network], settings.channels
    if channels is None:
        return layers
    if len(channels) != len(layers):
        raise ConfigError(
            f"video.channels = {channels}: network {network!r} has {len(layers)} layers; give a number for each, such "
            "as " + str([layer.channels for layer in layers])
        )
    return tuple(replace(layer, channels=wide) for layer, wide in zip(layers, channels, strict=True))


def check_sides(config: Config, clip: tuple[int, ...], layers: tuple[ClipLayer, ...], query: str) -> None:
    """Raises an error if patches do not fit into clips (T, H, W), or crops and whole frames not into one network.

    Raises:
        ConfigError: they do not, or items of whole frames are to be learnt from crops.
    """
    network, settings = config.network, VideoConfig.of(config)
    patch = PATCH_PX[network]
    sides, step = {"height": clip[1], "width": clip[2]}, patch
    crop = settings.crop_px and min(settings.crop_px, *clip[1:])
    if crop and clip[1:] != (crop, crop):
        # one decoder rebuilds crops and whole frames: all of them must halve without a rest
        sides["crop_px"], step = crop, patch * prod(layer.stride[1] for layer in layers)
        if query == "whole":
            raise ConfigError(
                f"memory.query = 'whole': items of whole frames cannot be learnt from crops of {crop} px "
                "(video.crop_px); use 'position'"
            )
    for name, size in sides.items():
        if size % step:
            raise ConfigError(f"video.{name} = {size}: network {network!r} takes multiples of {step} here")


def unet_of(config: Config, clip: tuple[int, ...]) -> UNet:
    """The U-Net for clips (T, H, W).

    Raises:
        ConfigError: settings that do not go together.
    """
    settings, network = VideoConfig.of(config), config.network
    predicts, frames = settings.task == "predict", clip[0]
    if settings.input != "frames":
        raise ConfigError(f"video.input = {settings.input!r}: network {network!r} makes grey levels; use 'frames'")
    if predicts and frames < 2:
        raise ConfigError("video.clip_length = 1: a prediction needs a frame before the last one; give at least 2")
    if network == "unet-late" and not predicts:
        raise ConfigError(
            "video.task = 'reconstruct': network 'unet-late' has skips, which would copy the input; use 'predict'"
        )
    channels = tuple(settings.channels or UNET_CHANNELS)
    if len(channels) < 2:
        raise ConfigError(f"video.channels = {list(channels)}: network {network!r} has at least two levels")
    plan = UNet(
        channels,
        seen=frames - 1 if predicts else frames,
        made=1 if predicts else frames,
        skips=predicts,
        norm=NORMS[network],
        late=network == "unet-late",
    )
    crop = settings.crop_px and min(settings.crop_px, *clip[1:])
    if crop and clip[1:] != (crop, crop) and config.memory.query == "whole":
        raise ConfigError(
            "memory.query = 'whole': items of whole frames cannot be learnt from crops (video.crop_px); use 'position'"
        )
    sides = {"height": clip[1], "width": clip[2], **({"crop_px": crop} if crop else {})}
    for name, size in sides.items():
        if size % plan.shrinking:
            raise ConfigError(
                f"video.{name} = {size}: network {network!r} takes multiples of {plan.shrinking} with "
                f"{len(channels)} levels"
            )
    return plan
