"""Settings: TOML, words, what overrides what, and errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memae.config import override, parse_words, read_toml, validated
from memae.errors import ConfigError
from memae.modality import ChosenSettings, preset_config

TABLE = validated({"network": "table"}, "test")


def test_a_toml_file_gives_nested_settings(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('network = "wide"\n[train]\nepochs = 3\nlearning_rate = 1e-2\n[memory]\nenabled = false\n')
    settings = read_toml(path)
    assert settings == {
        "network": "wide",
        "train": {"epochs": 3, "learning_rate": 0.01},
        "memory": {"enabled": False},
    }
    config = override(TABLE, settings, str(path))
    assert (config.network, config.train.epochs, config.memory.enabled) == ("wide", 3, False)


def test_a_missing_toml_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot read this config file \(No such file"):
        read_toml(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot read this config file"):
        read_toml(tmp_path)


@pytest.mark.parametrize("text", [b"[train\nepochs = 3", b"epochs: 3", b"name = '\xff'"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"broken\.toml: not valid TOML"):
        read_toml(path)
    path.write_text(f"a = {'[' * 20_000}{']' * 20_000}")
    with pytest.raises(ConfigError, match=r"broken\.toml: is nested far deeper than any setting"):
        read_toml(path)


def test_words_are_read_as_toml_values_and_else_as_text() -> None:
    words = [
        "network=mnist",
        "train.epochs=30",
        "train.learning_rate = 1e-3",
        "memory.enabled=false",
        "memory.query=whole",
        'memory.similarity="dot"',
    ]
    assert parse_words(words) == {
        "network": "mnist",
        "train": {"epochs": 30, "learning_rate": 0.001},
        "memory": {"enabled": False, "query": "whole", "similarity": "dot"},
    }
    assert parse_words([]) == {}


def test_the_last_word_for_a_key_holds() -> None:
    assert parse_words(["train.epochs=1", "train.epochs=2"]) == {"train": {"epochs": 2}}


@pytest.mark.parametrize("word", ["train.epochs", "=3", "train.=3", "train.epochs.deep=3", ""])
def test_a_word_of_another_form_is_refused_with_an_example(word: str) -> None:
    with pytest.raises(ConfigError, match=r"write it as section\.key=value, such as train\.epochs=30"):
        parse_words([word])


def test_a_section_cannot_be_a_value_and_a_section() -> None:
    with pytest.raises(ConfigError, match=r"^memory\.num_items=4: memory is a section"):
        parse_words(["memory=3", "memory.num_items=4"])


def test_override_changes_what_it_names_and_leaves_the_rest() -> None:
    config = override(TABLE, {"train": {"epochs": 7}}, "settings")
    assert config.train.epochs == 7
    assert TABLE.train.epochs == 100
    back = override(config, {"train": {"epochs": 100}}, "settings")
    assert back == TABLE
    both = override(config, {"memory": {"num_items": 5}, "train": {"noise": 0.1}}, "settings")
    assert (both.train.epochs, both.train.noise, both.memory.num_items) == (7, 0.1, 5)


def test_a_dump_is_read_back_to_the_same_config() -> None:
    config = override(TABLE, {"threshold": {"false_alarm_rate": 0.05}, "memory": {"query": "whole"}}, "settings")
    assert validated(config.model_dump(), "dump") == config


def test_a_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TABLE.train.epochs = 3  # type: ignore[misc]  # which is what the test is about


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trian": {"epochs": 3}}, r"^here: trian: unknown key; did you mean train\?"),
        ({"train": {"epoch": 3}}, r"^here: train\.epoch: unknown key; did you mean train\.epochs\?"),
        ({"memory": {"num_item": 3}}, r"memory\.num_item: unknown key; did you mean memory\.num_items\?"),
        (
            {"threshold": {"xyzzy": 3}},
            r"threshold\.xyzzy: unknown key; known: false_alarm_rate, calibration_share",
        ),
        ({"xyzzy": 1}, r"xyzzy: unknown key; known: network, memory, train, threshold, table"),
    ],
)
def test_an_unknown_key_names_the_close_one_or_all(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(TABLE, settings, "here")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": {"epochs": "many"}}, r"here: train\.epochs = 'many': should be a valid integer"),
        ({"train": {"epochs": 2.5}}, r"train\.epochs = 2\.5: should be a valid integer"),
        ({"train": {"learning_rate": [1]}}, r"train\.learning_rate = \[1\]: should be a valid number"),
        ({"memory": {"enabled": "perhaps"}}, r"memory\.enabled = 'perhaps': should be a valid boolean"),
        (
            {"memory": {"similarity": "euclid"}},
            r"memory\.similarity = 'euclid': should be 'cosine', 'dot' or 'euclidean'",
        ),
        ({"memory": 3}, r"memory = 3: should be a valid dictionary"),
        (
            {"network": "capsules"},
            r"network = 'capsules' is unknown; known: video, video-paper, unet, unet-late, mnist, cifar10, image, "
            "scene, small, features, kddcup, table, wide",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(TABLE, settings, "here")


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("train", "epochs", -1, "greater than or equal to 0"),
        ("train", "batch_size", 0, "greater than or equal to 1"),
        ("train", "learning_rate", 0, "greater than 0"),
        ("train", "learning_rate", float("inf"), "finite"),
        ("train", "noise", -0.1, "greater than or equal to 0"),
        ("train", "noise", float("nan"), "finite"),
        ("memory", "entropy_weight", -1, "greater than or equal to 0"),
        ("train", "validation_share", 1, "less than 1"),
        ("train", "patience", -1, "greater than or equal to 0"),
        ("memory", "num_items", 0, "greater than or equal to 1"),
        ("memory", "temperature", 0, "greater than 0"),
        ("memory", "shrinkage", -1, "greater than or equal to 0"),
        ("memory", "warmup_epochs", -1, "greater than or equal to 0"),
        ("threshold", "false_alarm_rate", 0, "greater than 0"),
        ("threshold", "false_alarm_rate", 1, "less than 1"),
        ("threshold", "calibration_share", 1, "less than 1"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_bound(section: str, key: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"here: {section}\.{key} = {value}: should be .*{message}"):
        override(TABLE, {section: {key: value}}, "here")


def test_the_entropy_weight_is_a_number_of_the_memory_and_keeps_its_old_name_for_a_while() -> None:
    with pytest.warns(FutureWarning, match=r"train\.entropy_weight is now called memory\.entropy_weight"):
        config: Any = override(TABLE, {"train": {"entropy_weight": 0.5, "epochs": 3}}, "here")
    assert (config.memory.entropy_weight, config.train.epochs) == (0.5, 3)
    stored = TABLE.model_dump()
    del stored["memory"]["entropy_weight"]
    stored["train"]["entropy_weight"] = 0.25  # as a saved model has it
    config = validated(stored, "there")
    assert config.memory.entropy_weight == 0.25


@pytest.mark.parametrize("preset", ["thumbnail", "thumbnail-paper"])
def test_a_preset_keeps_the_old_name_of_its_network_for_a_while(preset: str) -> None:
    present = preset.replace("thumbnail", "small")
    said = r"the network thumbnail is now called small; .* until memae 0\.2\.0"
    with pytest.warns(FutureWarning, match=said) as told:
        config = ChosenSettings(preset, None).config("image")
    assert len(told) == 1
    assert config == preset_config(present, "image")


def test_a_network_keeps_its_old_name_for_a_while() -> None:
    with pytest.warns(FutureWarning, match="the network thumbnail is now called small") as told:
        changed = ChosenSettings(None, {"network": "thumbnail"}).config("image")
    assert len(told) == 1
    assert changed.network == "small"
    stored = preset_config("small", "image").model_dump() | {"network": "thumbnail"}
    assert validated(stored, "there").network == "small"  # as a saved model has it


def test_a_family_of_memories_that_is_not_known_is_named() -> None:
    with pytest.raises(ConfigError, match=r"here: memory: kind = 'mema' is no family of memories; known: memae"):
        override(TABLE, {"memory": {"kind": "mema"}}, "here")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        override(TABLE, {"train": {"epochs": -1, "epoch": 3}, "memory": {"enabled": "perhaps"}}, "here")
    for part in ("train.epochs = -1", "train.epoch: unknown", "memory.enabled = 'perhaps'"):
        assert part in str(caught.value)


@pytest.mark.parametrize("settings", [{"network": ["mnist"]}, {"network": "mnist", "memory": {"kind": ["memae"]}}])
def test_a_name_that_is_no_text_is_unknown(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"\['(mnist|memae)'\] is (unknown|no family of memories)"):
        validated(settings, "test")
