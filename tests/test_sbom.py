from tests.sbom import bill


def test_the_bill_names_each_package_once_with_its_version_and_licence() -> None:
    found = bill()
    components = {part["name"]: part for part in found["components"]}  # type: ignore[attr-defined]
    assert len(components) == len(found["components"])  # type: ignore[arg-type]
    assert {"torch", "numpy", "pillow", "pyarrow", "pydantic", "safetensors"} <= components.keys()
    assert not {"pytest", "mypy", "ruff", "sphinx"} & components.keys()
    for part in components.values():
        assert part["purl"].startswith(f"pkg:pypi/{part['name']}@{part['version']}")
        assert part["licenses"][0]["license"]["name"] not in ("", "unknown"), part["name"]
    linked = {name for link in found["dependencies"] for name in link["dependsOn"]}  # type: ignore[attr-defined]
    assert linked == components.keys()
