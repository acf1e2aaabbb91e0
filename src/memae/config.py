"""Every setting of a detector, in sections; read from a preset, a TOML file and `section.key=value` words.

An unknown section or key, a value of the wrong type or out of range is a `ConfigError` that names it.
"""

from __future__ import annotations

import difflib
import importlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from memae.deprecated import renamed_settings
from memae.errors import ConfigError
from memae.image.preprocess import ImageScale
from memae.table.schema import NumberScale
from memae.video.preprocess import ClipInput

__all__ = [
    "Config",
    "MemoryConfig",
    "Network",
    "Pool",
    "PreprocessConfig",
    "ScoreConfig",
    "ThresholdConfig",
    "TrainConfig",
    "VideoConfig",
    "override",
    "read_toml",
]

Network = Literal[
    "mnist", "cifar10", "image", "scene", "thumbnail", "kddcup", "table", "wide", "video", "video-paper"
]


FrameScore = Literal["mean", "place"]
Query = Literal["whole", "position"]
Reduction = Literal["sum", "mean"]
Initialisation = Literal["uniform", "data", "kmeans"]
Pool = Literal["mean", "max"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PreprocessConfig(_Section):
    """How samples become the numbers that the network sees."""

    image_size: int | None = Field(
        None,
        ge=4,
        description="longest side of images in files, px, which are resized to it; unset: as most of them are, and 256 "
        "at most. Arrays stay as they are",
    )
    tile: int | None = Field(
        None,
        ge=16,
        description="side of the squares, px, that images are cut into at their own size and scored in; unset: an "
        "image is resized and seen at once",
    )
    tile_overlap: int | None = Field(
        None, ge=0, description="px that neighbouring tiles share at least; unset: a quarter of a tile"
    )
    tiles_per_image: int | None = Field(
        None, ge=1, description="tiles of each training image, drawn by the seed; unset: all"
    )
    image_scale: ImageScale = Field(
        "unit",
        description="per image: 'none', 'unit' (root mean square 1) or 'centred' (mean 0, then unit)",
    )
    number_scale: NumberScale = Field(
        "standard",
        description="per number column: 'standard' (mean 0, deviation 1), 'minmax' (0 to 1) or 'log' (standard, "
        "of sign(x) log(1 + |x|): for heavy tails)",
    )
    duplicates: Literal["keep", "drop"] = Field(
        "keep",
        description="equal rows of a table: 'drop' trains and stops early on each once, so that a frequent row does "
        "not drown a rare one; thresholds are set from all rows",
    )

    @model_validator(mode="after")
    def _tiles_fit(self) -> Self:
        if self.tile is None:
            if self.tile_overlap is not None or self.tiles_per_image is not None:
                raise ValueError("tile_overlap and tiles_per_image are of tiles; set tile, or leave them out")
            return self
        if self.image_size is not None:
            raise ValueError(
                "image_size resizes images, and tiles are cut at their own size; leave one of them out"
            )
        if self.overlap >= self.tile:
            raise ValueError(
                f"tile_overlap = {self.overlap} leaves nothing new for the next tile of {self.tile} px; take less than "
                "the tile, such as a quarter of it"
            )
        return self

    @property
    def overlap(self) -> int:
        """Of neighbouring tiles, px."""
        return (self.tile or 0) // 4 if self.tile_overlap is None else self.tile_overlap


class MemoryConfig(_Section):
    """The memory between encoder and decoder; what is common to all families of `memae.memory`."""

    enabled: bool = Field(True, description="false: the plain autoencoder")
    kind: str = Field("memae", description="the family, each of which has further keys of its own")
    num_items: int | None = Field(
        None,
        ge=1,
        description="N; unset: the network's own number. A memory that is not trained has no more than there are "
        "training samples",
    )
    query: Query | None = Field(None, description="'whole' encoding or each 'position'; unset: the network's own")
    initialisation: Initialisation = Field(
        "uniform", description="'uniform', or from warm encodings: 'data', 'kmeans'"
    )
    warmup_epochs: int = Field(0, ge=0, description="epochs as a plain autoencoder before the memory starts")
    revive_epochs: int = Field(0, ge=0, description="after each of the first so many epochs, revive dead items")
    trained: bool = Field(
        True,
        description="false: the network trains as a plain autoencoder to the end, and then encodings become the items "
        "by 'data' or 'kmeans'; there is no warm-up and no revival",
    )

    @model_validator(mode="after")
    def _items_mean_something(self) -> Self:
        if self.enabled and not self.trained and self.initialisation == "uniform":
            raise ValueError(
                "trained = false needs initialisation 'data' or 'kmeans', or the items would stay random for ever"
            )
        return self


NEW_NAMES = {"train.entropy_weight": "memory.entropy_weight"}
"""Of settings, by their old names: those of a family of memories lie in its section."""

_MEMORIES: dict[str, type[MemoryConfig]] = {}
"""The section [memory] of each family."""


def add_memory_section(kind: str, section: type[MemoryConfig]) -> None:
    """Makes `section` what [memory] holds where its `kind` is this one; see `memae.memory.base.register`."""
    _MEMORIES[kind] = section


def memory_sections() -> dict[str, type[MemoryConfig]]:
    """The section [memory] of each family, by the name of the family."""
    importlib.import_module("memae.memory")  # each family registers itself there, a layer above this one
    return dict(_MEMORIES)


def _of_family(section: Any) -> Any:
    """The section of the family that plain settings name."""
    if not isinstance(section, Mapping):
        return section
    families, kind = memory_sections(), section.get("kind", "memae")
    if kind not in families:
        raise ValueError(f"kind = {kind!r} is no family of memories; known: {', '.join(families)}")
    return families[kind].model_validate(section)


def _default_memory() -> MemoryConfig:
    return memory_sections()["memae"]()


class TrainConfig(_Section):
    """The training loop."""

    epochs: int | None = Field(
        100,
        ge=0,
        description="0: the untrained network; unset: by the data, at least 10, and more where that is less than 500 "
        "steps",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="samples per step, over all processes; unset: by the data, for about 32 to 64 steps an epoch, "
        "from 32 to 2048",
    )
    learning_rate: float = Field(1e-4, gt=0, description="of Adam")
    decay_share: float = Field(
        0.0, ge=0, le=1, description="of the training, at its end: the learning rate falls in a line to zero"
    )
    reduction: Reduction = Field(
        "sum", description="error of a sample: 'sum' over its elements (paper) or 'mean' (released code)"
    )
    noise: float = Field(0.0, ge=0, description="standard deviation of Gaussian noise on the training input")
    validation_share: float = Field(0.1, ge=0, lt=1, description="of the samples, held out for early stopping")
    patience: int = Field(
        0,
        ge=0,
        description="stop after so many epochs without a better held-out loss and keep the best epoch; "
        "0: run all epochs and keep the last",
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="of the layers; 'bf16' is float32 on a CPU that has no bfloat16 in hardware"
    )


class ScoreConfig(_Section):
    """How a rebuilt image becomes a score; rows do not look here, and video has `video.score`."""

    smooth_px: float = Field(
        0.0,
        ge=0,
        description="standard deviation of the Gaussian that smooths what is left of an image before it is squared, "
        "px; 0: none (paper)",
    )
    pool: Pool | None = Field(
        "mean",
        description="of an image: 'mean' of its squared error (paper), or 'max', the hottest place of its map, which "
        "finds defects however small: the greatest squared error, smoothed by 1/64 of the longer side; unset: 'max' "
        "where an image is larger than 64 px",
    )
    square_px: int | None = Field(
        1,
        ge=1,
        description="side of the squares of a map, px: places are looked for in the mean errors of squares; unset: 4 "
        "where an image is larger than 64 px, else 1",
    )
    relative: bool | None = Field(
        False,
        description="divide the error in each square of a map by the one that the training images have there, so that "
        "what is hard to rebuild does not outshine what is unusual; unset: where an image is larger than 64 px",
    )


class VideoConfig(_Section):
    """How video becomes clips, and clips become scores; images and tables do not look here."""

    height: int = Field(256, ge=8, description="px, that every frame is resized to")
    width: int = Field(256, ge=8, description="px")
    channels: list[PositiveInt] | None = Field(
        None, description="of each layer of the encoder, mirrored by the decoder; unset: the network's own"
    )
    clip_length: int = Field(16, ge=2, description="frames in a clip")
    dilation: int = Field(1, ge=1, description="frames from one frame of a clip to the next")
    training_stride: int = Field(
        1, ge=1, description="frames from the start of a training clip to that of the next"
    )
    crop_px: int | None = Field(
        None, ge=8, description="side of the squares to train on, taken where something moves; unset: whole frames"
    )
    crops_per_clip: int = Field(4, ge=1, description="squares from each training clip")
    stride: int = Field(
        16,
        ge=1,
        description="from clip to clip while scoring, frames: 1 scores each frame in the middle of a clip of its own, "
        "clip_length is fastest",
    )
    input: ClipInput = Field(
        "frames", description="what is rebuilt: 'frames', or 'differences' of consecutive ones"
    )
    score: FrameScore = Field(
        "mean",
        description="of a frame: 'mean' of its squared error (paper), or 'place', the root mean squared error "
        "where it is largest",
    )
    place_px: int = Field(8, ge=1, description="side of a place, px of the resized frame")


class ThresholdConfig(_Section):
    """The decision."""

    false_alarm_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="wanted share of normal samples flagged; unset: 0.01, or more if data is short",
    )
    calibration_share: float = Field(
        0.2, ge=0, lt=1, description="of the samples, held out from all training to set the threshold"
    )


class Config(_Section):
    """All of it; `Config().model_dump()` is what config.json and a TOML file hold."""

    network: Network
    preprocess: PreprocessConfig = PreprocessConfig()
    memory: Annotated[SerializeAsAny[MemoryConfig], BeforeValidator(_of_family)] = Field(
        default_factory=_default_memory
    )
    train: TrainConfig = TrainConfig()
    score: ScoreConfig = ScoreConfig()
    video: VideoConfig = VideoConfig()
    threshold: ThresholdConfig = ThresholdConfig()


def read_toml(path: str | Path) -> dict[str, Any]:
    """The settings of a TOML file as nested dicts.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read this config file ({error.strerror}); check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error}); see docs/config.md for an example") from None


def parse_words(words: Iterable[str]) -> dict[str, Any]:
    """Nested settings from words such as `train.epochs=30`; the value is read as TOML, else as text.

    Raises:
        ConfigError: a word without '=', or of more than one section.
    """
    settings: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        *sections, key = path.strip().split(".")
        if not equals or not key or len(sections) > 1:
            raise ConfigError(f"{word}: write it as section.key=value, such as train.epochs=30")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{word}: {section} is a section, and another word gave it a value")
        place[key] = value
    return settings


def override(config: Config, settings: Mapping[str, Any], origin: str) -> Config:
    """`config` with nested `settings` laid over it; `origin` names them in an error.

    Raises:
        ConfigError: an unknown key, a wrong type, or a value out of range.
    """
    settings, merged = renamed_settings(settings, NEW_NAMES, stacklevel=3), config.model_dump()
    if isinstance(memory := settings.get("memory"), Mapping):
        merged["memory"] = _kept_by(merged["memory"], memory.get("kind", config.memory.kind))
    for section, values in settings.items():
        if isinstance(values, Mapping) and isinstance(merged.get(section), dict):
            merged[section] |= values
        else:
            merged[section] = values
    return validated(merged, origin)


def _kept_by(section: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """What of a section [memory] a family has as well: its numbers, and not those of another one."""
    known = memory_sections().get(kind, MemoryConfig).model_fields
    return {key: value for key, value in section.items() if key in known}


def validated(settings: Mapping[str, Any], origin: str) -> Config:
    """The `Config` behind plain nested settings, every value checked; raises as `override`."""
    try:
        return Config.model_validate(renamed_settings(settings, NEW_NAMES, warn=False))
    except ValidationError as error:
        raise ConfigError(f"{origin}: " + "; ".join(_explain(e) for e in error.errors())) from None


def _explain(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "value_error":  # of settings that do not go together
        return f"{path}: {error['msg'].removeprefix('Value error, ')}"
    if error["type"] != "extra_forbidden":
        return f"{path} = {error['input']!r}: {error['msg'].removeprefix('Input ').lower()}"
    *sections, key = error["loc"]
    model: type[BaseModel] = Config
    for section in sections:
        model = type(Config(network="table").__getattribute__(str(section)))
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {'.'.join([*map(str, sections), close[0]])}?" if close else f"known: {', '.join(known)}"
    return f"{path}: unknown key; {hint}"
