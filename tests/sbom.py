"""Prints a bill of materials (CycloneDX 1.5, JSON): all that memae needs, as installed, with versions and licences.

python tests/sbom.py > sbom.json
"""

import json
import re
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

EXTRAS = ("", "video", "openvino", "serve", "tensorboard")


def needed(name: str, extras: tuple[str, ...] = ("",)) -> Iterator[str]:
    """The names of the installed packages that one needs, in its plain form and with these extras."""
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        try:
            metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:  # for another system or an extra that is not installed
            continue
        yield canonical(requirement.name)


def canonical(name: str) -> str:
    """A name as the package index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(name: str) -> str:
    """What a package says of its licence: an expression, else its classifiers, else the first line of its field."""
    about = metadata.metadata(name)
    classified = [one.rpartition(" :: ")[2] for one in about.get_all("Classifier") or () if "License ::" in one]
    return about["License-Expression"] or ", ".join(classified) or (about["License"] or "unknown").splitlines()[0]


def bill() -> dict[str, object]:
    """The whole bill."""
    found, waiting = dict[str, list[str]](), list(needed("memae", EXTRAS))
    root = sorted(set(waiting))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = sorted(set(needed(name)))
            waiting += found[name]
    components = [
        {
            "type": "library",
            "bom-ref": name,
            "name": name,
            "version": metadata.version(name),
            "purl": f"pkg:pypi/{name}@{metadata.version(name)}",
            "licenses": [{"license": {"name": licence(name)}}],
        }
        for name in sorted(found)
    ]
    own = {"type": "library", "bom-ref": "memae", "name": "memae", "version": metadata.version("memae")}
    links = [{"ref": "memae", "dependsOn": root}, *({"ref": n, "dependsOn": found[n]} for n in sorted(found))]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": own},
        "components": components,
        "dependencies": links,
    }


if __name__ == "__main__":
    print(json.dumps(bill(), indent=1))
