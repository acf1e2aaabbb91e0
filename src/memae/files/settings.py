"""Plain nested settings, from a TOML file or from words of the command line; `memae.config` checks them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from memae.errors import ConfigError

__all__ = ["parse_words", "read_toml"]


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
    except RecursionError:
        raise ConfigError(
            f"{path}: is nested far deeper than any setting; see docs/config.md for an example"
        ) from None


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
