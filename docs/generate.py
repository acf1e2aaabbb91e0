"""Writes docs/cli.md from the command line's own help and docs/config.md from the settings' own descriptions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from memae.cli import app
from memae.config import Config, MemoryConfig, memory_sections
from memae.modality import Modality, modalities, preset_config

HERE = Path(__file__).parent


def cli_markdown() -> str:
    """The page of docs/cli.md: what `--help` prints, for the command and for every verb."""
    parts = [
        "# The command line\n",
        "`make docs` makes this page from `--help`; a test fails when it is stale.\n",
        "Results go to a file or to stdout, messages go to stderr. Exit codes: 0 success, 1 an error in the input or "
        "a setting, 2 a wrong command line, 130 interrupted.\n",
    ]
    for verb in ("", *(command.callback.__name__ for command in app.registered_commands if command.callback)):
        words = ["memae", verb] if verb else ["memae"]
        parts.append(f"## {' '.join(words)}\n\n```text\n{_help([verb] if verb else [])}\n```\n")
    return "\n".join(parts).rstrip() + "\n"


def config_markdown() -> str:
    """The page of docs/config.md: every key of every section, its default and its meaning, and the presets."""
    parts = [
        "# Settings\n",
        "`make docs` makes this page from the descriptions in the code. Give settings as a TOML file with "
        "`--config`, one by one with `--set section.key=value`, or to `Detector(settings=...)`. An unknown key is an "
        "error.\n",
        '```toml\n[train]\nepochs = 30\n\n[memory]\nnum_items = 200\ninitialisation = "kmeans"\n\n'
        "[threshold]\nfalse_alarm_rate = 0.005\n```\n",
        "The defaults below are those without a preset. The section Presets has what each preset changes. Presets of a "
        "memory are in [memories.md](memories.md).\n",
    ]
    sections = {name: field.annotation for name, field in Config.model_fields.items()}
    families = {kind: found for kind, found in memory_sections().items() if found.__module__.startswith("memae.")}
    sections["memory"] = families["memae"]
    sections |= {modality.name: modality.Settings for modality in modalities()[::-1]}
    for name, section in sections.items():
        if isinstance(section, type) and issubclass(section, BaseModel):
            parts.append(f"## [{name}]\n\n{(section.__doc__ or '').strip()}\n")
            parts.append(_keys(section, section.model_fields))
        if name == "memory":
            parts += [_family(kind, section) for kind, section in families.items() if kind != "memae"]
    parts.append("## Presets\n")
    parts += [_presets(modality) for modality in modalities()[::-1]]
    return "\n".join(parts).rstrip() + "\n"


def _family(kind: str, section: type[MemoryConfig]) -> str:
    """The keys that a family of memories has beside the common ones, and those with another default."""
    common = {key: (field.annotation, field.default) for key, field in MemoryConfig.model_fields.items()}
    keys = [
        key for key, field in section.model_fields.items() if common.get(key) != (field.annotation, field.default)
    ]
    heading = f'### [memory] with kind = "{kind}"\n\n{(section.__doc__ or "").strip()}\n'
    return f"{heading}\n{_keys(section, keys)}"


def _keys(section: type[BaseModel], keys: Iterable[str]) -> str:
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        part = section.model_fields[key]
        default = "" if part.default is PydanticUndefined else _value(part.default)
        rows.append(f"| `{key}` | {_type(part.annotation)} | {default} | {part.description or ''} |")
    return "\n".join(rows) + "\n"


def _presets(modality: Modality) -> str:
    """The numbers of all presets of a kind of data that differ from the defaults of the sections in any of them."""
    networks = [
        network for network in modality.networks if "-" not in network
    ]  # others are a network and a variant
    names = [f"{network}{variant}" for network in networks for variant in ("", "-paper", "-released")]
    configs = {name: preset_config(name, modality.name) for name in names}
    first = next(iter(configs.values()))
    keys = [
        (section, key)
        for section in ("memory", modality.name, "train")
        for key, field in type(getattr(first, section)).model_fields.items()
        if any(getattr(getattr(config, section), key) != field.default for config in configs.values())
    ]
    return f"Of {modality.plural}:\n\n{_table(configs, keys)}"


def _table(configs: dict[str, Config], keys: list[tuple[str, str]]) -> str:
    rows = ["| preset | " + " | ".join(key for _, key in keys) + " |", "|---|" + "---|" * len(keys)]
    for name, config in configs.items():
        rows.append(f"| `{name}` | " + " | ".join(_value(getattr(getattr(config, s), k)) for s, k in keys) + " |")
    return "\n".join(rows) + "\n"


def _help(words: list[str]) -> str:
    plain = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "memae", *words, "--help"]
    shown = subprocess.run(command, env=plain, capture_output=True, text=True, check=True).stdout
    return "\n".join(line.rstrip() for line in shown.strip("\n").splitlines())


def _type(annotation: Any) -> str:
    if annotation is None or annotation is type(None):
        return "unset"
    args = get_args(annotation)
    if get_origin(annotation) is list:
        return "list of texts" if args[0] is str else "list of whole numbers"
    if not args:
        return {"bool": "true, false", "int": "whole number", "float": "number", "str": "text"}.get(
            annotation.__name__, ""
        )
    if get_origin(annotation) is Literal and not isinstance(args[0], str):
        return ", ".join(map(_value, args))
    if get_origin(annotation) is not None and all(isinstance(a, str) for a in args):
        return ", ".join(f"`{a}`" for a in args)
    return ", ".join(filter(None, map(_type, args)))


def _value(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Writes both pages."""
    (HERE / "cli.md").write_text(cli_markdown(), encoding="utf-8")
    (HERE / "config.md").write_text(config_markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
