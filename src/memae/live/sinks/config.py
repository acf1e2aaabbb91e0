"""Sinks from the tables `[[sinks]]` of a config."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from memae.errors import ConfigError
from memae.live.sinks.outbox import Outbox
from memae.live.sinks.settings import SinkSettings
from memae.live.sinks.sink import Sink

__all__ = ["from_config", "outboxes"]

KINDS = {
    "jsonl": "JsonlSink",
    "history": "HistorySink",
    "webhook": "WebhookSink",
    "mqtt": "MqttSink",
    "frigate": "FrigateSink",
}


def from_config(table: Mapping[str, Any]) -> Sink:
    """The sink that a table describes: its `kind`, and the settings of this kind.

    Raises:
        ConfigError: an unknown kind or key, or a value that is out of range.
        MissingExtraError: a sink that needs a package which is not installed.
    """
    return _sink(table)[0]


def outboxes(tables: Iterable[Mapping[str, Any]]) -> tuple[Outbox, ...]:
    """One started outbox for each table.

    Raises:
        ConfigError: as `from_config`, or two sinks of one name.
    """
    made = [_sink(table) for table in tables]
    names = [sink.name for sink, _ in made]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"sinks: two are called {min(twice)!r}; give each a name of its own by the key name")
    return tuple(Outbox(sink, settings.buffer) for sink, settings in made)


def _sink(table: Mapping[str, Any]) -> tuple[Sink, SinkSettings]:
    kind = table.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"sinks: kind = {kind!r} is unknown; known: {', '.join(KINDS)}")
    make = getattr(importlib.import_module(f"memae.live.sinks.{kind}"), KINDS[kind])
    own = {key: value for key, value in table.items() if key != "kind"}
    settings = make.settings.of({"name": kind, **own}, f"sink {own.get('name') or kind}")
    return make(settings), settings
