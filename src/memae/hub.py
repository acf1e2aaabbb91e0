"""Models on the Hugging Face Hub: the two files of a model directory, read by `memae.artifact`, and a model card.

An address is hf://owner/name@revision, where the revision is a branch, a tag or a commit. Only the two files are
downloaded, so nothing that a repository holds beside them is opened. A token comes from HF_TOKEN or from
`hf auth login`, and stands in no message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from memae.artifact import COPY, SETTINGS, WEIGHTS, Artifact, load_artifact, save_artifact
from memae.errors import ArtifactError, ConfigError, MissingExtraError, first_line, printable
from memae.fitted import model_facts

__all__ = ["Address", "is_address", "load_from_hub", "model_card", "push_to_hub"]

NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
# a Path keeps one of the two slashes, and the command line makes a Path of MODEL
ADDRESS = re.compile(rf"(?:hf://?)?(?P<repo>{NAME}/{NAME})(?:@(?P<revision>[^\s@]+))?")
CARD = """---
library_name: memae
tags: [anomaly-detection, memae]
---

# {name}

A [MemAE](https://arxiv.org/abs/1904.02639) model that scores {plural} by how badly a memory of normal ones rebuilds
them. Anomalies score higher. It was trained on normal {plural} alone, and no label chose anything in it.

```python
from memae import Detector  # pip install 'memae[hub]'

verdicts = Detector.load("hf://{repo}").detect(x)
```

{facts}

The threshold promises its false-alarm rate for {plural} like the held-out ones. Nothing here says how many anomalies
the model finds; `memae evaluate` says it of labelled {plural}.
"""


@dataclass(frozen=True)
class Address:
    """A model on the hub: owner/name, and a branch, tag or commit."""

    repo: str
    revision: str

    @classmethod
    def of(cls, text: str | Path) -> Self:
        """The address in a text; without a revision it is the branch main.

        Raises:
            ConfigError: it is none.
        """
        text = text.as_posix() if isinstance(text, Path) else text
        if not (found := ADDRESS.fullmatch(text)):
            raise ConfigError(f"{text}: is no address of a model on the hub; give hf://owner/name@revision")
        return cls(found["repo"], found["revision"] or "main")

    def __str__(self) -> str:
        return f"hf://{self.repo}@{self.revision}"


def is_address(path: str | Path) -> bool:
    """Whether a model is asked for by its address on the hub."""
    return (path.as_posix() if isinstance(path, Path) else path).startswith("hf:/")


def load_from_hub(path: str | Path) -> Artifact:
    """Downloads a model, unless the cache of huggingface_hub has this revision, and reads it on the CPU.

    Raises:
        ConfigError: `path` is no address.
        ArtifactError: no such repository or revision, no access, not reachable and not in the cache, or no model.
        MissingExtraError: the extra `hub` is not installed.
    """
    address = Address.of(path)
    with _said_plainly(address):
        from huggingface_hub import snapshot_download

        snapshot = Path(
            snapshot_download(address.repo, revision=address.revision, allow_patterns=[SETTINGS, WEIGHTS])
        )
    if not snapshot.is_dir():
        raise ArtifactError(f"{address}: holds no file of a model, so this is no memae model; check the name")
    try:
        return load_artifact(snapshot)
    except ArtifactError as error:  # it names a file in the cache, and says how a directory is cured
        why = str(error).removeprefix(str(snapshot)).lstrip("/\\: ")
        why = why.replace(COPY, f"remove {snapshot.parents[1]} and download the model again")
        raise ArtifactError(f"{address}: {why}") from None


def push_to_hub(artifact: Artifact, repo: str, *, private: bool = True) -> str:
    """Commits the model and its card to a repository, which is made if there is none, and gives the commit's address.

    A model holds more than weights: the path of its training data, names of columns, and some training samples.

    Args:
        artifact: the model.
        repo: "owner/name", or "hf://owner/name@branch" of a branch that exists.
        private: whether a repository that is made is private; one that exists stays as it is.

    Raises:
        ConfigError: `repo` is no name of a repository.
        ArtifactError: no token, no right to write, no such branch, or not reachable.
        MissingExtraError: the extra `hub` is not installed.
    """
    from memae import __version__

    address = Address.of(repo)
    with TemporaryDirectory() as folder:
        save_artifact(artifact, directory := Path(folder, "model"))
        files: dict[str, str | bytes] = {name: str(directory / name) for name in (SETTINGS, WEIGHTS)}
        files["README.md"] = model_card(artifact, address.repo).encode()
        with _said_plainly(address):
            from huggingface_hub import CommitOperationAdd, HfApi

            hub = HfApi(library_name="memae", library_version=__version__)
            hub.create_repo(address.repo, private=private, exist_ok=True)
            done = hub.create_commit(
                address.repo,
                [
                    CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
                    for name, content in files.items()
                ],
                commit_message=f"Add a model of memae {__version__}",
                revision=address.revision,
            )
    return str(Address(address.repo, done.oid))


def model_card(artifact: Artifact, repo: str) -> str:
    """The README.md of a model: what it was trained on, and what its threshold promises. Markdown."""
    facts, modality = artifact.facts, artifact.modality
    told = model_facts(artifact) | {"trained on": f"{facts['samples']['training']:,} {modality.unit}"}
    told |= {f"note {n}": note for n, note in enumerate(facts.get("notes", ()), 1)}
    told["memae"] = facts.get("versions", {}).get("memae", "unknown")
    lines = "\n".join(f"- {name}: {escape(printable(str(fact)), quote=False)}" for name, fact in told.items())
    return CARD.format(name=repo.partition("/")[2], repo=repo, plural=modality.unit, facts=lines)


@contextmanager
def _said_plainly(address: Address) -> Iterator[None]:
    """Makes one message of what the client raises, without the token. Nothing but calls of the client stands in it."""
    try:
        from httpx2 import HTTPError
        from huggingface_hub import errors
    except ImportError:
        raise MissingExtraError(f"{address}", "hub") from None
    try:
        yield
    except errors.GatedRepoError:
        why = "this repository asks for consent; give it on its page, and set HF_TOKEN to a token of that account"
    except errors.RepositoryNotFoundError:
        why = "no such repository, or a private one; check the name, and for a private one set HF_TOKEN"
    except errors.RevisionNotFoundError:
        why = f"the repository has no revision {address.revision}; give one of its branches, tags or commits"
    except errors.LocalEntryNotFoundError:
        why = (
            "the hub was not reached, and this revision is not in the cache; check the network, and HF_HUB_OFFLINE"
        )
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        cure = "set HF_TOKEN to a token with that right" if status in (401, 403) else "try again later"
        why = f"the hub answered with status {status}; {cure}"
    except (HTTPError, ConnectionError) as error:
        why = f"the hub was not reached ({_without_token(error)})"
    except (OSError, ValueError, RuntimeError) as error:
        # a full disk, a name that the client refuses, or a failed transfer, for which it has no type of its own
        why = f"the client of the hub failed ({type(error).__name__}: {_without_token(error.__cause__ or error)})"
    else:
        return
    raise ArtifactError(f"{address}: {why}") from None


def _without_token(error: BaseException) -> str:
    from huggingface_hub import get_token

    reason = first_line(error)
    return reason.replace(token, "***") if (token := get_token()) else reason
