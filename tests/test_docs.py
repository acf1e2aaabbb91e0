import importlib.util
import pydoc
import re
import shlex
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from experiments.__main__ import app as experiments
from memae import Detector
from memae.cli import app
from memae.config import ThresholdConfig, TrainConfig, memory_sections
from memae.modality import modalities
from tests.small_footage import BRIEF, FRAMES, INTRUDER, write_footage

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
    if f"typer=={typer.__version__}" not in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        pytest.skip("the page is generated with the pinned Typer; others write arguments otherwise")
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


def code(page: Path) -> list[str]:
    """What stands between backticks in the sentences of a page, but for commands of the benchmarks."""
    found = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    return [text for text in found if not text.startswith("python -m benchmarks")]


WITH_CODE = [page for page in PAGES if python_blocks(page)]


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


def options(app: typer.Typer) -> set[str]:
    """All options of all commands, with their dashes."""
    group: Any = typer.main.get_command(app)
    commands = group.commands.values()
    return {option for command in commands for param in command.params for option in param.opts}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_options_that_a_page_names_exist(page: Path) -> None:
    known = options(app) | options(experiments) | {"--help", "--version"}
    named = {option for text in code(page) for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", text)}
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_settings_that_a_page_names_exist(page: Path) -> None:
    sections: dict[str, Any] = {modality.name: modality.Settings for modality in modalities()}
    sections |= {"train": TrainConfig, "threshold": ThresholdConfig}
    keys = {name: set(section.model_fields) for name, section in sections.items()}
    keys["memory"] = {key for family in memory_sections().values() for key in family.model_fields}
    setting = re.compile(rf"(?<![\w./])({'|'.join(keys)})\.([a-z_]+)\b(?![./])")
    named = {found for text in code(page) for found in setting.findall(text)}
    assert [(section, key) for section, key in named if key not in keys[section]] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_names_of_a_page_exist(page: Path) -> None:
    named = {name for text in code(page) for name in re.findall(r"(?<![\w./])memae(?:\.\w+)+", text)}
    assert [name for name in named if pydoc.locate(name) is None] == []


def flows(folder: Path) -> None:
    """A file of normal rows, and one whose last row is an anomaly."""
    rows = np.random.default_rng(0).normal(size=(300, 4))
    titles = "timestamp,bytes,packets,seconds"
    np.savetxt(folder / "flows_normal.csv", rows, delimiter=",", header=titles, comments="")
    odd = [*rows[:5], [0.0, 9.0, -9.0, 9.0]]
    np.savetxt(folder / "flows_today.csv", odd, delimiter=",", header=titles, comments="")


def parts(folder: Path) -> None:
    """A model of dark images, and a folder in which one image has a bright spot."""
    images = np.random.default_rng(0).integers(0, 60, (40, 16, 16), dtype=np.uint8)
    brief = {"train": {"epochs": 2}, "memory": {"warmup_epochs": 1}, "threshold": {"false_alarm_rate": 0.2}}
    Detector(seed=0, settings=brief).fit(images).save(folder / "parts.model")
    images[0, 4:12, 4:12] = 255
    (folder / "today").mkdir()
    for name, image in zip(("bad", "good"), images, strict=False):
        Image.fromarray(image).save(folder / "today" / f"{name}.png")


def camera(folder: Path) -> None:
    """Normal video, a video with an intruder, its labels, a mask, and settings of a brief training."""
    write_footage(folder)
    (folder / "normal").rename(folder / "normal_videos")
    (folder / "test_videos").mkdir()
    for name, to in (("clip", "today"), ("clip", "test_videos/clip"), ("calm", "test_videos/calm")):
        shutil.copy(folder / f"{name}.mp4", folder / f"{to}.mp4")
    segment = f"clip,{INTRUDER.start},{INTRUDER.stop - 1}"
    (folder / "labels.csv").write_text(f"video,start,end\n{segment}\n")
    Image.new("L", (72, 48), 255).save(folder / "mask.png")
    (folder / "camera.toml").write_text("\n".join(BRIEF))  # dotted keys are TOML


def after_readme(said: str, folder: Path) -> None:
    assert re.match(r"row 5: (bytes|packets|seconds) is ", said)


def after_images(said: str, folder: Path) -> None:
    assert (folder / "bad.png.map.png").exists()
    assert not (folder / "good.png.map.png").exists()
    assert (folder / "why.png").exists()


def after_video(said: str, folder: Path) -> None:
    assert said.splitlines()[0].startswith("today.mp4 ")  # an event
    assert 0.5 < float(said.splitlines()[-1]) <= 1
    for name in ("frames.csv", "events.jsonl", "overlay.mp4", "camera.model"):
        assert (folder / name).exists()
    assert len((folder / "frames.csv").read_text(encoding="utf-8").splitlines()) == 1 + FRAMES


def flows_model(folder: Path) -> None:
    """A model of rows."""
    flows(folder)
    brief = {"train": {"epochs": 2}, "memory": {"num_items": 12}}
    Detector(seed=0, settings=brief).fit(folder / "flows_normal.csv").save(folder / "flows.model")


def after_export(said: str, folder: Path) -> None:
    assert said == "('model.json', 'model.onnx') True\n"


def nothing(folder: Path) -> None:
    """The code of the page brings its own data."""


def after_start(out: str, folder: Path) -> None:
    assert re.match(r"row 5: (bytes|packets|seconds) is ", out)


def after_tables(out: str, folder: Path) -> None:
    assert out == "[('flood', 1.0), ('scan', 0.6666666666666666)]\n"


def after_sklearn(out: str, folder: Path) -> None:
    assert out == "[-1 -1]\n[1]\n"


def after_report(out: str, folder: Path) -> None:
    assert "anomaly map over bad.png" in (folder / "report.html").read_text(encoding="utf-8")


def after_serve(out: str, folder: Path) -> None:
    assert out == "['/health/live', '/health/ready', '/metrics']\n"


RUN = {
    "README.md": (flows, after_readme),
    "export.md": (flows_model, after_export),
    "images.md": (parts, after_images),
    "report.md": (parts, after_report),
    "serve.md": (flows_model, after_serve),
    "sklearn.md": (nothing, after_sklearn),
    "start.md": (flows, after_start),
    "tables-data.md": (nothing, after_tables),
    "video.md": (camera, after_video),
}
"""By page: what prepares the folder in which its code runs, and what must be true then."""

RUN_ELSEWHERE = {"add-your-own.md"}  # tests/experiments/test_add_your_own.py


def test_the_code_of_every_page_is_run() -> None:
    assert {page.name for page in WITH_CODE} == {*RUN, *RUN_ELSEWHERE}


@pytest.mark.parametrize("page", [page for page in WITH_CODE if page.name in RUN], ids=lambda page: page.name)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare, check = RUN[page.name]
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    names: dict[str, object] = {}
    for block in python_blocks(page):
        exec(compile(block, page.name, "exec"), names)
    check(capsys.readouterr().out, tmp_path)
