"""Sinks from tables of a config, and what is refused."""

import re
import tomllib
from pathlib import Path

import pytest

from memae.errors import ConfigError
from memae.live.sinks import Outbox, from_config, outboxes
from memae.live.sinks.config import KINDS
from memae.live.sinks.mqtt import MqttSettings


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"kind": "pigeon"}, "kind = 'pigeon' is unknown; known: jsonl, history, webhook, mqtt, frigate"),
        ({}, "kind = None is unknown"),
        ({"kind": "jsonl"}, "sink jsonl: folder: field required"),
        ({"kind": "jsonl", "folder": "x", "keep_day": 3}, "keep_day: unknown key; did you mean 'keep_days'?"),
        ({"kind": "history", "path": "x", "keep_days": 0}, "sink history: keep_days: should be greater than 0"),
        ({"kind": "webhook", "url": "ftp://user:hunter22@host/"}, "url: give an address such as https://"),
        (
            {"kind": "webhook", "url": "http://h/", "secret": "hunter22"},
            "secret: a secret is whsec_ and the base64",
        ),
        ({"kind": "webhook", "url": "http://h/", "secret": "env:MEMAE_NONE"}, "MEMAE_NONE is empty or not set"),
        ({"kind": "webhook", "url": "file:/no/hunter/file"}, "holds no secret that can be read"),
        (
            {"kind": "webhook", "url": "http://h/", "types": ["begin"]},
            "types.0: should be 'new', 'update' or 'end'",
        ),
        ({"kind": "mqtt", "host": "h", "password": 3}, "sink mqtt: password: should be a valid string"),
        ({"kind": "mqtt", "host": "h", "prefix": "a/#"}, "sink mqtt: prefix: string should match"),
        ({"kind": "frigate", "url": "http://h", "label": "a b", "name": "nvr"}, "sink nvr: label: string"),
    ],
)
def test_a_bad_table_is_refused_by_name_and_shows_no_secret(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_config(table)
    assert said in str(error.value)
    assert "hunter22" not in str(error.value)


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "hunter22")
    (tmp_path / "key").write_text("hunter23\n")
    for text, secret in {
        "env:BROKER_PASSWORD": "hunter22",
        f"file:{tmp_path / 'key'}": "hunter23",
        "x:y": "x:y",
    }.items():
        settings = MqttSettings.of({"host": "h", "password": text}, "sink mqtt")
        assert settings.password.get_secret_value() == secret
        assert secret not in repr(settings)


def test_names_of_outboxes_differ(tmp_path: Path) -> None:
    table = {"kind": "jsonl", "folder": str(tmp_path)}
    with pytest.raises(ConfigError, match="two are called 'jsonl'"):
        outboxes([table, table])
    made = outboxes([table, {**table, "name": "second"}])
    assert [one.name for one in made] == ["jsonl", "second"]
    assert all(isinstance(one, Outbox) for one in made)
    for one in made:
        one.close()


PAGE = (Path(__file__).parents[3] / "docs" / "alarms.md").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_blocks_of_the_page_make_the_sink_and_the_page_names_every_setting(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "hunter22")
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    tables = [table for block in blocks for table in tomllib.loads(block)["sinks"] if table["kind"] == kind]
    assert tables
    for table in tables:
        sink = from_config(table)
        assert sink.name == kind
        sink.close()
    for name in type(sink).settings.model_fields:  # type: ignore[attr-defined]
        assert re.search(rf"\b{name}\b", PAGE), name
