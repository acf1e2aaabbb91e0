"""Every setting of a detector, in sections; read from a preset, a TOML file and `section.key=value` words.

Four sections are common to all kinds of data: `memory`, `train`, `threshold` and the name of the `network`. Each kind
of data adds one section of its own, such as `[image]`, which its package defines and registers with `add_section`.

An unknown section or key, a value of the wrong type or out of range is a `ConfigError` that names it.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    create_model,
    model_validator,
)

from memae.deprecated import renamed_settings, warn_renamed
from memae.errors import ConfigError
from memae.files.settings import parse_words, read_toml

__all__ = [
    "Config",
    "KindSettings",
    "MemoryConfig",
    "ThresholdConfig",
    "TrainConfig",
    "add_section",
    "current_names",
    "current_network",
    "override",
    "parse_words",
    "read_toml",
    "upgraded",
    "validated",
]


Query = Literal["whole", "position"]
Reduction = Literal["sum", "mean"]
Initialisation = Literal["uniform", "data", "kmeans"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class KindSettings(_Section):
    """The section of one kind of data: what a package such as `memae.image` subclasses and registers."""

    kind: ClassVar[str]
    """The name of the section and of the kind of data: "image", "table", "video"."""
    plural: ClassVar[str]
    """What the data is called in messages, such as "images"."""
    former_names: ClassVar[Mapping[str, str]] = {}
    """Old dotted names of keys, such as "preprocess.tile", with the keys of this section that took their place."""
    former_networks: ClassVar[Mapping[str, str]] = {}
    """Old names of networks, with the present ones."""

    @classmethod
    def of(cls, config: Config) -> Self:
        """The section of this kind in a config; a TypeError for a config of another kind of data."""
        own = config.own
        if not isinstance(own, cls):
            raise TypeError(f"the config of network {config.network!r} has no section [{cls.kind}]")
        return own


class MemoryConfig(_Section):
    """The memory between encoder and decoder; what is common to all families of `memae.memory`."""

    enabled: bool = Field(True, description="false: a plain autoencoder without a memory")
    kind: str = Field("memae", description="the family of memories; each has further keys and its own defaults")
    num_items: int | None = Field(
        None,
        ge=1,
        description="N; unset: the network's own number. A memory that is not trained has at most as many items as "
        "there are training samples",
    )
    query: Query | None = Field(None, description="'whole' encoding or each 'position'; unset: the network's own")
    keep_samples: bool = Field(
        True,
        description="the model keeps the training samples nearest to each item, three of each of the first 1,000 "
        "items: their keys, and pictures of at most 32 x 32 px or their encoded rows, to show what an item stands for; "
        "false: none, for privacy",
    )
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

    score: Literal["reconstruction", "distance"] = Field(
        "reconstruction",
        description="what the score of a sample is made of: the error of its reconstruction, or the mean 'distance' of "
        "its queries to their nearest items, which images in tiles and video do not have",
    )

    @model_validator(mode="after")
    def _items_mean_something(self) -> Self:
        if self.enabled and not self.trained and self.initialisation == "uniform":
            raise ValueError(
                "trained = false needs initialisation 'data' or 'kmeans', or the items would stay random for ever"
            )
        return self


NEW_NAMES = {
    "train.entropy_weight": "memory.entropy_weight",
    "image.keep_samples": "memory.keep_samples",
}
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
    if not isinstance(kind, str) or kind not in families:
        raise ValueError(f"kind = {kind!r} is no family of memories; known: {', '.join(families)}")
    return families[kind].model_validate(section)


def _default_memory() -> MemoryConfig:
    return memory_sections()["memae"]()


class TrainConfig(_Section):
    """The training loop."""

    epochs: int | None = Field(
        100,
        ge=0,
        description="0: the untrained network; unset: `least_epochs`, or more if that is less than 500 steps",
    )
    least_epochs: int = Field(10, ge=1, description="where `epochs` is unset")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="samples per step, over all processes; unset: 32 to 2048, for about 32 to 64 steps an epoch",
    )
    learning_rate: float = Field(1e-4, gt=0, description="of Adam")
    decay_share: float = Field(
        0.0, ge=0, le=1, description="share of the training, at its end, in which the rate falls linearly to zero"
    )
    reduction: Reduction = Field(
        "sum", description="error of a sample: 'sum' over its elements (paper) or 'mean' (released code)"
    )
    noise: float = Field(0.0, ge=0, description="standard deviation of Gaussian noise on the training input")
    validation_share: float = Field(0.1, ge=0, lt=1, description="of the samples, held out for early stopping")
    patience: int = Field(
        0,
        ge=0,
        description="stop after this many epochs without a lower validation loss and keep the best epoch; "
        "0: run all epochs and keep the last",
    )
    contamination: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="share of anomalies that is believed to be among the samples; above 0, a model of each half of "
        "them scores the other half first, and that share of the highest scores is left out of the training",
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32",
        description="of the layers in training; 'bf16' means float32 on a CPU without bfloat16; see docs/video.md",
    )


class ThresholdConfig(_Section):
    """The decision."""

    false_alarm_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="wanted share of normal samples flagged; unset: 0.01, or the lowest rate that the data allows",
    )
    calibration_share: float = Field(
        0.2, ge=0, lt=1, description="of the samples, held out from all training to set the threshold"
    )
    contamination: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="share of anomalies that is believed to be among the held-out samples: that share of the highest "
        "scores is left out. The rate is promised if these are the anomalies; if there are none, it may be that share "
        "higher",
    )
    confidence: float = Field(
        0.75,
        ge=0,
        lt=1,
        description="probability that the rate is held, as the held-out samples are one draw of many; 0: it is held on "
        "average over all draws. Where few groups are held out see docs/promises.md",
    )
    folds: int | None = Field(
        None,
        ge=0,
        description="0: the threshold comes from a held-out part; 2 or more: from cross-fitting, which scores each "
        "part by a model that was trained without it; unset: 0, or 2 where a part would hold too few groups",
    )

    @model_validator(mode="after")
    def _folds_are_several(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds = 1 leaves nothing to train on; give 0 for a held-out part, or 2 or more")
        if self.folds and not self.calibration_share:
            raise ValueError(
                f"folds = {self.folds} sets a threshold, and calibration_share = 0 asks for none; leave one out"
            )
        return self


class Config(_Section):
    """All settings of one detector.

    `validated` makes the config of a kind of data, which has that kind's section as one more attribute:
    `config.image.size_px`. `model_dump()` is what config.json and a TOML file hold.
    """

    kind: ClassVar[str] = ""
    network: str
    memory: Annotated[SerializeAsAny[MemoryConfig], BeforeValidator(_of_family)] = Field(
        default_factory=_default_memory
    )
    train: TrainConfig = TrainConfig()
    threshold: ThresholdConfig = ThresholdConfig()

    @property
    def own(self) -> KindSettings:
        """The section of the kind of data that the network is for."""
        section: KindSettings = getattr(self, self.kind)
        return section

    def with_own(self, **changes: Any) -> Self:
        """The same config with some keys of its kind's section changed."""
        return self.model_copy(update={self.kind: self.own.model_copy(update=changes)})


_KINDS: dict[str, type[Config]] = {}
"""By network; one class for each kind of data."""


def add_section(settings: type[KindSettings], networks: Iterable[str]) -> None:
    """Registers the section of a kind of data and the networks that are for that kind."""
    if any(made.model_fields[made.kind].annotation is settings for made in _KINDS.values()):
        return
    section: Any = (settings, settings())
    made = create_model("Config", __base__=Config, __doc__=Config.__doc__, **{settings.kind: section})
    made.kind = settings.kind
    _KINDS.update(dict.fromkeys(networks, made))


def override(config: Config, settings: Mapping[str, Any], origin: str) -> Config:
    """`config` with nested `settings` laid over it; `origin` names them in an error.

    Settings under a former name are taken under the present one, with a warning.

    Raises:
        ConfigError: an unknown key, a section of another kind of data, a wrong type, or a value out of range.
    """
    merged, present = config.model_dump(), current_names(settings, warn=True)
    memory = present.get("memory")
    if isinstance(memory, Mapping) and memory.get("kind", config.memory.kind) != config.memory.kind:
        merged["memory"] = {}  # the numbers were tuned for one family; another one has defaults of its own
    for section, values in present.items():
        if isinstance(values, Mapping) and isinstance(merged.get(section), dict):
            merged[section] |= values
        else:
            merged[section] = values
    return validated(merged, origin)


def current_names(settings: Mapping[str, Any], *, warn: bool = False) -> dict[str, Any]:
    """Nested settings with every key, and the network, under its present name.

    Args:
        settings: sections with their settings.
        warn: tells the user of each former name; not for what an older version wrote.

    Raises:
        ConfigError: a setting is given under both names.
    """
    sections = _sections()
    former = NEW_NAMES | {
        old: f"{kind}.{new}" for kind, section in sections.items() for old, new in section.former_names.items()
    }
    found = renamed_settings(settings, former, warn=warn, stacklevel=3)
    if "network" in found:
        found["network"] = current_network(found["network"], warn=warn, stacklevel=3)
    gone = {name.partition(".")[0] for name in former} - sections.keys() - Config.model_fields.keys()
    return {name: part for name, part in found.items() if part or name not in gone}


def _sections() -> dict[str, Any]:
    """The section of each kind of data that is registered."""
    return {made.kind: made.model_fields[made.kind].annotation for made in _KINDS.values()}


def current_network(name: Any, *, warn: bool = False, stacklevel: int = 2) -> Any:
    """The present name of a network; one that no kind of data has renamed comes back as it is."""
    if not isinstance(name, str):
        return name  # which whoever reads the settings says
    if name not in _KINDS:
        importlib.import_module("memae.modality").modalities()  # each kind registers itself there, a layer above
    former = {old: new for section in _sections().values() for old, new in section.former_networks.items()}
    if warn and name in former:
        warn_renamed(f"the network {name}", former[name], stacklevel)
    return former.get(name, name)


def upgraded(stored: Mapping[str, Any], origin: str) -> Config:
    """The config in a file of an older format, which held the keys of all kinds of data under their former names.

    Raises:
        ConfigError: as `validated`.
    """
    settings = current_names(stored)
    others = _sections().keys() - {_class_of(settings, origin).kind}
    return validated({name: part for name, part in settings.items() if name not in others}, origin)


def validated(settings: Mapping[str, Any], origin: str) -> Config:
    """The `Config` behind plain nested settings, every value checked; raises as `override`."""
    settings = renamed_settings(settings, NEW_NAMES, warn=False)
    settings["network"] = current_network(settings.get("network"))
    made = _class_of(settings, origin)
    sections = _sections()
    if wrong := next((name for name in settings if name in sections and name != made.kind), None):
        raise ConfigError(
            f"{origin}: section [{wrong}] is for {sections[wrong].plural}, and network {settings['network']!r} is for "
            f"{sections[made.kind].plural}; leave the section out"
        )
    try:
        return made.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{origin}: " + "; ".join(_explain(e, made) for e in error.errors())) from None


def _class_of(settings: Mapping[str, Any], origin: str) -> type[Config]:
    network = settings.get("network")
    if isinstance(network, str) and network in _KINDS:
        return _KINDS[network]
    close = difflib.get_close_matches(str(network), list(_KINDS), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(_KINDS)}"
    raise ConfigError(f"{origin}: network = {network!r} is unknown; {hint}")


def _explain(error: Any, made: type[Config]) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "value_error":  # of settings that do not go together
        return f"{path}: {error['msg'].removeprefix('Value error, ')}"
    if error["type"] != "extra_forbidden":
        return f"{path} = {error['input']!r}: {error['msg'].removeprefix('Input ').lower()}"
    *sections, key = error["loc"]
    model: Any = made
    for section in sections:
        model = model.model_fields[str(section)].annotation
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {'.'.join([*map(str, sections), close[0]])}?" if close else f"known: {', '.join(known)}"
    return f"{path}: unknown key; {hint}"
