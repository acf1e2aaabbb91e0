"""Nothing goes to the network without a word: sockets are refused from before the first import on."""

import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import socket, sys

def refuse(event, arguments):
    internet = event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6)
    if internet or event == "socket.getaddrinfo":
        raise RuntimeError(f"{event} {arguments}: something wants to reach the network")

sys.addaudithook(refuse)
import importlib.util
from pathlib import Path
import numpy as np, torch
from PIL import Image
from memae import Detector
from memae.cli import main

torch.set_num_threads(1)
place = Path(sys.argv[1])
engine = sys.argv[2]
(place / "images").mkdir()
generator = np.random.default_rng(0)
for number in range(30):
    Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(place / "images" / f"{number}.png")
brief = {"train": {"epochs": 1}, "memory": {"num_items": 8}}
for name, x in (("rows", generator.random((60, 4))), ("images", place / "images")):
    if name == "rows" and engine == "openvino":
        continue
    Detector(settings=brief, device="cpu", engine=engine).fit(x).save(place / f"{name}.model")
    detector = Detector.load(place / f"{name}.model", device="cpu", engine=engine)
    assert np.isfinite(detector.score(x).values).all()
    assert len(detector.explain(x)) > 0
sys.argv = ["memae", "score", str(place / "images.model"), str(place / "images"), "--out", str(place / "scores.csv")]
try:
    main()
except SystemExit as end:
    assert not end.code
print("done")
"""


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_fit_save_load_score_and_the_command_line_open_no_socket(tmp_path: Path, engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    command = [sys.executable, "-c", WORK, str(tmp_path), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")


def test_the_test_would_notice(tmp_path: Path) -> None:
    work = WORK.partition("import importlib.util")[0] + "socket.create_connection(('localhost', 9))"
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=False)
    assert "something wants to reach the network" in done.stderr
