import ast
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer

from memae.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_command_line_is_what_help_says_today(generate: ModuleType) -> None:
    page = generate.cli_markdown()
    for verb in ("fit", "score", "evaluate", "inspect", "demo"):
        assert f"## memae {verb}\n" in page
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == page, "stale: run  make docs"


def test_the_page_of_the_settings_is_what_they_say_today(generate: ModuleType) -> None:
    page = generate.config_markdown()
    for section in ("image", "table", "video", "memory", "train", "threshold"):
        assert f"## [{section}]\n" in page
    for preset in ("mnist-paper", "table", "video", "video-paper", "video-released"):
        assert f"\n| `{preset}` |" in page
    assert (DOCS / "config.md").read_text(encoding="utf-8") == page, "stale: run  make docs"


def test_the_prose_of_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"<!-- ([\w-]+):begin -->.*?<!-- \1:end -->|```.*?```", "", text, flags=re.DOTALL)
    assert len(prose.split()) < 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The words behind `memae` of each command on a page, without redirections and pipes."""
    lines = re.findall(r"^(?:\$ |    )memae (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [shlex.split(re.split(r" \| | 2?> ", line)[0], comments=True) for line in lines]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_the_command_line_knows_every_command_of_a_page(page: Path) -> None:
    group: Any = typer.main.get_command(app)
    verbs = group.commands
    for verb, *options in commands(page):
        verbs[verb].make_context(verb, options)


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "video.md"], ids=lambda page: page.name)
def test_the_imports_of_a_page_work(page: Path) -> None:
    for block in python_blocks(page):
        imports: list[ast.stmt] = [
            node for node in ast.parse(block).body if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        exec(compile(ast.Module(imports, []), str(page), "exec"), {})


def test_the_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(300, 4))
    titles = "timestamp,bytes,packets,seconds"
    np.savetxt("flows_normal.csv", rows, delimiter=",", header=titles, comments="")
    np.savetxt("flows_today.csv", [*rows[:5], [0.0, 9.0, -9.0, 9.0]], delimiter=",", header=titles, comments="")
    (block,) = python_blocks(ROOT / "README.md")
    exec(compile(block, "README.md", "exec"), {})
    assert re.match(r"row 5: (bytes|packets|seconds) is ", capsys.readouterr().out)
