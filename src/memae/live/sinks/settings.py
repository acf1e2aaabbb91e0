"""Settings of sinks: tables of a TOML file, checked, with secrets that no message shows."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from memae.errors import ConfigError

__all__ = ["HttpAddress", "Secret", "SinkSettings"]


def _resolved(secret: SecretStr) -> SecretStr:
    """The secret behind "env:NAME" or "file:PATH"; any other text is the secret itself."""
    where, _, what = secret.get_secret_value().partition(":")
    if where == "env":
        if not (found := os.environ.get(what, "")):
            raise ValueError(f"the environment variable {what} is empty or not set")
        return SecretStr(found)
    if where == "file":
        try:
            return SecretStr(Path(what).expanduser().read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"{what} holds no secret that can be read") from None
    return secret


def _http(address: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(address.get_secret_value())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise ValueError("give an address such as https://example.org/hook")
    return address


Secret = Annotated[SecretStr, AfterValidator(_resolved)]
"""A password or key, as text, as "env:NAME" or as "file:PATH"."""
HttpAddress = Annotated[SecretStr, AfterValidator(_resolved), AfterValidator(_http)]
"""An address of HTTP, which may hold a name, a password or a token, and is a secret for that."""


class SinkSettings(BaseModel):
    """What every kind of sink has; each kind adds its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field("", max_length=40, description="in messages and metrics; empty: the kind of the sink")
    buffer: int = Field(
        1000, ge=1, description="messages of events that wait while the sink is down; more are lost, oldest first"
    )

    @classmethod
    def of(cls, table: Mapping[str, Any], origin: str) -> Self:
        """The settings that a table holds.

        Args:
            table: without its key `kind`.
            origin: names the table in errors.

        Raises:
            ConfigError: an unknown key, or a value that is out of range; the message shows no value, which may be a
                secret.
        """
        try:
            return cls.model_validate(dict(table))
        except ValidationError as error:
            raise ConfigError("; ".join(cls._explain(one, origin) for one in error.errors())) from None

    @classmethod
    def _explain(cls, error: Any, origin: str) -> str:
        path = ".".join(str(part) for part in error["loc"])
        if error["type"] != "extra_forbidden":
            said = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
            return f"{origin}: {path}: {said[0].lower()}{said[1:]}"
        known = list(cls.model_fields)
        close = difflib.get_close_matches(path, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        return f"{origin}: {path}: unknown key; {hint}"
