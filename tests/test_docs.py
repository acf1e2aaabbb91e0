import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_command_line_is_what_help_says_today(generate):
    page = generate.cli_markdown()
    for verb in ("fit", "score", "evaluate", "inspect", "demo"):
        assert f"## memae {verb}\n" in page
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == page, "stale: run  make docs"


def test_the_page_of_the_settings_is_what_they_say_today(generate):
    page = generate.config_markdown()
    for section in ("image", "table", "video", "memory", "train", "threshold"):
        assert f"## [{section}]\n" in page
    for preset in ("mnist-paper", "table", "video", "video-paper", "video-released"):
        assert f"\n| `{preset}` |" in page
    assert (DOCS / "config.md").read_text(encoding="utf-8") == page, "stale: run  make docs"


def test_the_prose_of_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"<!-- ([\w-]+):begin -->.*?<!-- \1:end -->|```.*?```", "", text, flags=re.DOTALL)
    assert len(prose.split()) < 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
