"""Models on the hub, through the real client and an endpoint on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from memae import Detector
from memae.errors import ArtifactError, ConfigError, MissingExtraError
from memae.hub import Address, _said_plainly, is_address, load_from_hub, model_card
from tests.hub_endpoint import TOKEN, Hub, Repository, hub_on_this_machine
from tests.small_detectors import ROWS, fit

pytest.importorskip("huggingface_hub")

# The client reads HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when it is imported, so one process has the hub and one has
# not. A token is read at each call. A model may be the name of an earlier call, which gave its address.
WORK = """
import json, os, sys
import torch
from memae import Detector
from memae.errors import MemaeError

torch.set_num_threads(1)
said = {}
for name, (token, call, model, *arguments) in json.loads(sys.argv[1]).items():
    os.environ["HF_TOKEN"] = token
    try:
        if call == "push":
            said[name] = Detector.load(model, device="cpu").push_to_hub(*arguments)
        else:
            detector = Detector.load(said.get(model, model), device="cpu", engine="torch")
            said[name] = detector.score(*arguments).values.tolist()
    except MemaeError as error:
        said[name] = [type(error).__name__, str(error)]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fit(ROWS)


@pytest.fixture(scope="module")
def saved(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "rows.model"
    detector.save(path)
    return path


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    ROWS.iloc[:20].to_csv(path, index=False)
    return str(path)


def work(calls: Mapping[str, Any], cache: Path, endpoint: str, **more: str) -> dict[str, Any]:
    """What each call gives, or the class and the message of its error."""
    client = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WORK, json.dumps(calls)],
        env=os.environ | client | more, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


class Online(NamedTuple):
    """What one process did with the hub."""

    hub: Hub
    cache: Path
    said: dict[str, Any]


@pytest.fixture(scope="module")
def online(saved: Path, rows: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Online]:
    files = {name: (saved / name).read_bytes() for name in ("config.json", "model.safetensors")}
    with hub_on_this_machine() as hub:
        for name, content in {
            "older": {"weights.pkl": b"\x80\x04.", "README.md": b"older"},
            "good": files,
            "secret": files,
            "gated": files,
            "cut": files | {"model.safetensors": files["model.safetensors"][:-7]},
            "other": {"config.json": b'{"architectures": ["BertModel"]}'},
            "empty": {"notes.txt": b"nothing"},
        }.items():
            hub.repositories[f"team/{name}"] = repository = Repository(name == "secret", name == "gated")
            repository.commit("main", content)
        calls = {
            "pushed": (TOKEN, "push", str(saved), "team/parts"),
            "main": (TOKEN, "score", "hf://team/parts", rows),
            "commit": (TOKEN, "score", "pushed", rows),
            "added": (TOKEN, "push", str(saved), "hf://team/older@main"),
            "beside": (TOKEN, "score", "added", rows),
            "none": ("", "score", "hf://team/none", rows),
            "revision": ("", "score", "hf://team/good@v9", rows),
            "address": ("", "score", "hf://team", rows),
            "push": ("", "push", str(saved), "team/new"),
        }
        calls |= {
            name: ("", "score", f"hf://team/{name}", rows) for name in ("secret", "gated", "cut", "other", "empty")
        }
        cache = tmp_path_factory.mktemp("cache")
        yield Online(hub, cache, work(calls, cache, hub.address))


def test_a_pushed_model_scores_the_same(detector: Detector, rows: str, online: Online) -> None:
    pushed, repository = online.said["pushed"], online.hub.repositories["team/parts"]
    assert pushed == f"hf://team/parts@{repository.branches['main']}"
    assert repository.private
    files = repository.commits[repository.branches["main"]]
    assert files.keys() == {"README.md", "config.json", "model.safetensors"}
    assert b'Detector.load("hf://team/parts")' in files["README.md"]
    expected = pytest.approx(detector.score(rows).values, rel=1e-6)
    for name in ("main", "commit", "beside"):
        assert online.said[name] == expected, name


def test_a_push_keeps_other_files_and_a_load_leaves_them_there(online: Online) -> None:
    repository = online.hub.repositories["team/older"]
    files = repository.commits[repository.branches["main"]]
    assert files.keys() == {"README.md", "weights.pkl", "config.json", "model.safetensors"}
    assert b'Detector.load("hf://team/older")' in files["README.md"]
    assert not list(online.cache.rglob("*.pkl"))


def test_without_the_hub_its_cache_gives_the_same(rows: str, online: Online) -> None:
    calls = {
        "main": ("", "score", "hf://team/parts", rows),
        "commit": ("", "score", online.said["pushed"], rows),
        "elsewhere": ("", "score", "hf://team/others@v1", rows),
    }
    online.hub.asked.clear()
    offline = work(calls, online.cache, online.hub.address, HF_HUB_OFFLINE="1")
    assert not online.hub.asked
    kind, message = offline.pop("elsewhere")
    assert offline == {name: online.said[name] for name in ("main", "commit")}
    assert kind == "ArtifactError"
    assert message.startswith(
        "hf://team/others@v1: the hub was not reached, and this revision is not in the cache"
    )


def test_what_is_wrong_is_one_message(online: Online) -> None:
    folder = online.cache / "hub"
    expected = {
        "secret": ("ArtifactError", "hf://team/secret@main: no such repository, or a private one; check the name"),
        "none": ("ArtifactError", "hf://team/none@main: no such repository, or a private one; check the name"),
        "gated": ("ArtifactError", "hf://team/gated@main: this repository asks for consent"),
        "cut": (
            "ArtifactError",
            "hf://team/cut@main: model.safetensors: is not the file that config.json describes (cut short or "
            f"changed); remove {folder / 'models--team--cut'} and download the model again",
        ),
        "other": (
            "ArtifactError",
            "hf://team/other@main: config.json: has no format number, so this is no memae model",
        ),
        "empty": ("ArtifactError", "hf://team/empty@main: holds no file of a model, so this is no memae model"),
        "revision": ("ArtifactError", "hf://team/good@v9: the repository has no revision v9"),
        "address": ("ConfigError", "hf://team: is no address of a model on the hub"),
        "push": ("ArtifactError", "hf://team/new@main: the hub answered with status 401; set HF_TOKEN"),
    }
    for name, (kind, start) in expected.items():
        assert online.said[name][0] == kind
        assert online.said[name][1].startswith(start), online.said[name]


def test_a_failure_that_is_not_of_the_network_is_named_as_what_it_is() -> None:
    address = Address.of("hf://a/b")
    with (
        pytest.raises(ArtifactError, match=r"client of the hub failed \(OSError: .*No space left"),
        _said_plainly(address),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(TypeError, match="of our own"), _said_plainly(address):
        raise TypeError("an error of our own")


def test_a_message_of_the_client_is_passed_on_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from httpx2 import LocalProtocolError

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    message = r"was not reached \(Illegal header value 'Bearer \*\*\*'\)"
    with pytest.raises(ArtifactError, match=message), _said_plainly(Address.of("hf://a/b")):
        raise LocalProtocolError(f"Illegal header value 'Bearer {TOKEN}'")


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        MissingExtraError, match=r"hf://a/b@main needs the extra 'hub': run  pip install 'memae\[hub\]'"
    ):
        load_from_hub("hf://a/b")


def test_an_address_is_read_from_a_text_and_from_a_path() -> None:
    assert str(Address.of("hf://owner/a.name@v1.0")) == "hf://owner/a.name@v1.0"
    assert str(Address.of(Path("hf://owner/name"))) == "hf://owner/name@main"
    assert str(Address.of("owner/name@refs/pr/1")) == "hf://owner/name@refs/pr/1"
    assert is_address(Path("hf://owner/name"))
    assert not is_address("models/hf")
    for wrong in ("hf://", "hf://name", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/b@v 1"):
        with pytest.raises(ConfigError, match="give hf://owner/name@revision"):
            Address.of(wrong)


def test_a_model_is_not_saved_at_an_address(detector: Detector) -> None:
    with pytest.raises(ArtifactError, match="push_to_hub puts it on the hub"):
        detector.save("hf://owner/name")


def test_the_card_tells_the_training_and_not_where_its_data_lies(detector: Detector) -> None:
    card = model_card(detector.artifact, "team/parts")
    assert card.startswith("---\nlibrary_name: memae\n")
    assert f"- trained on: {detector.facts['samples']['training']:,} rows" in card
    assert f"score {detector.threshold.value:.6g} for a false-alarm rate of" in card
    assert str(detector.facts["origin"]) not in card
    assert np.isfinite(detector.threshold.value)
