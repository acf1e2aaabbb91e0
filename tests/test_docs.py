import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


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
