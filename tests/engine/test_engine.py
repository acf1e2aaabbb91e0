import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from memae import Detector, engine
from memae.autoencoder import Autoencoder, Reconstruction
from memae.config import override
from memae.engine import Engine, Rebuilder, choose, fast_bfloat16, scoring_form, yielding_threads
from memae.engine.openvino import OpenVinoAutoencoder
from memae.errors import ConfigError, MissingExtraError
from memae.memory.memae import MemAE
from memae.modality import build, preset_config

SHAPES = [  # of every network, some of odd sizes
    ("video", (1, 8, 32, 48)),
    ("video-paper", (1, 5, 31, 47)),
    ("image", (3, 70, 101)),
    ("image", (1, 33, 47)),
    ("mnist", (1, 28, 28)),
    ("mnist-paper", (1, 28, 28)),
    ("cifar10-paper", (3, 32, 32)),
    ("table", (12,)),
    ("kddcup-paper", (9,)),
]
MEMORIES = [
    {"num_items": 20, "shrinkage": 0.5},
    {"num_items": 20, "shrinkage": 19.0, "temperature": 5.0},  # nothing survives
    {"num_items": 37, "similarity": "dot", "shrinkage": 2.0},
    {"num_items": 20, "similarity": "euclidean"},
    {"enabled": False},
]
CASES = [(*network, MEMORIES[place % 5]) for place, network in enumerate(SHAPES)]
CASES += [(*network, memory) for network in (SHAPES[0], SHAPES[2]) for memory in MEMORIES[1:]]
KINDS = {1: "table", 3: "image", 4: "video"}


def trained(preset: str, shape: tuple[int, ...], **memory: float) -> Autoencoder:
    """A network whose BatchNorm statistics, biases and items are no longer those of the start."""
    torch.manual_seed(0)
    config = override(preset_config(preset, KINDS[len(shape)]), {"memory": memory}, "test")
    model = build(config, shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                norm.weight.mul_(torch.logspace(-0.3, 0.3, len(norm.weight)))
        for _ in range(3):
            model(torch.randn(4, *shape))
    return model.eval()


def in_openvino(model: Autoencoder, shape: tuple[int, ...], callers: int = 1) -> Callable[..., Any]:
    return Rebuilder(scoring_form(model, "openvino"))((1, *shape), callers)


def scores(x: torch.Tensor, rebuilt: Reconstruction) -> torch.Tensor:
    return (rebuilt.x - x).square().flatten(1).mean(dim=1)


@pytest.mark.parametrize(("preset", "shape", "memory"), CASES, ids=str)
def test_openvino_gives_the_scores_of_torch(preset: str, shape: tuple[int, ...], memory: dict[str, Any]) -> None:
    model, x = trained(preset, shape, **memory), torch.randn(5, *shape)
    x[1] = 0.0
    form = in_openvino(model, shape)
    with torch.inference_mode():
        expected, found, alone = model(x), form(x), form(x[:1])
    assert scores(x, found).numpy() == pytest.approx(scores(x, expected).numpy(), rel=2e-6)
    torch.testing.assert_close(found.x, expected.x, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.x[:1], alone.x)
    assert found.x.is_contiguous()
    assert found.positions == expected.positions
    if expected.read is None:
        assert found.read is None
        return
    assert expected.read.fallback.all() or memory.get("shrinkage") != 19.0
    torch.testing.assert_close(found.read.weights, expected.read.weights, rtol=1e-4, atol=1e-5)


def test_a_query_that_is_as_near_to_every_item_reads_the_first_as_in_torch() -> None:
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.ReLU())
    memory, decoder = MemAE(6, 4, shrinkage=2.0), nn.Conv2d(4, 1, 1)
    model, x = Autoencoder(encoder, memory, decoder).eval(), torch.zeros(1, 1, 5, 5)  # codes of zeros
    with torch.inference_mode():
        expected, found = model(x), in_openvino(model, (1, 5, 5))(x)
    assert expected.read.fallback.all()
    assert expected.read.weights[..., 0].eq(1).all()
    torch.testing.assert_close(found.x, expected.x)


def test_the_read_of_the_memory_can_be_asked_for_later() -> None:
    model, x = trained("image", (3, 70, 101)), torch.randn(2, 3, 70, 101)
    with torch.inference_mode():
        found = in_openvino(model, (3, 70, 101))(x)
    assert found.read.weights.shape == (2, 12, 100)
    assert found.read is found.read


def test_the_layout_of_a_batch_does_not_matter() -> None:
    form, x = in_openvino(trained("image", (3, 70, 101)), (3, 70, 101)), torch.randn(4, 3, 70, 101)
    with torch.inference_mode():
        expected = form(x).x
        assert torch.equal(form(x.contiguous(memory_format=torch.channels_last)).x, expected)
        assert torch.equal(form(x.repeat_interleave(2, dim=0)[::2]).x, expected)


def test_threads_share_nothing_that_changes() -> None:
    form = in_openvino(trained("mnist", (1, 28, 28)), (1, 28, 28), callers=4)
    batches = [torch.randn(150, 1, 28, 28) for _ in range(12)]
    with torch.inference_mode():
        expected = [form(batch).x for batch in batches]

    def rebuilt(batch: torch.Tensor) -> Any:
        with torch.inference_mode():
            return form(batch).x

    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in range(3):
            assert all(map(torch.equal, pool.map(rebuilt, batches), expected))


def test_each_caller_has_a_stream_of_its_own() -> None:
    form = scoring_form(trained("mnist", (1, 28, 28)), "openvino")
    assert isinstance(form, OpenVinoAutoencoder)
    x = torch.randn(4, 1, 28, 28)
    for callers in (1, 2):  # requests of one stream would wait for each other
        Rebuilder(form)(x.shape, callers)(x)
        converted = form.converted((1, 28, 28))
        assert converted is not None
        (compiled,) = (each for (some, _), each in converted._compiled.items() if some == callers)
        assert compiled.get_property("NUM_STREAMS") == callers


def test_weights_and_items_that_change_count_from_the_next_pass_on() -> None:
    model = trained("mnist", (1, 28, 28))
    form, x = scoring_form(model, "openvino"), torch.rand(4, 1, 28, 28)
    before = Rebuilder(form)(x.shape)(x).x
    memory = form.memory
    assert isinstance(memory, MemAE)
    memory.replace(torch.arange(memory.num_items), torch.randn_like(memory.items))
    after = Rebuilder(form)(x.shape)(x).x
    with torch.no_grad():
        torch.testing.assert_close(after, model(x).x, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after, before, rtol=1e-3, atol=1e-4)


def test_a_form_for_one_engine_can_become_one_for_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WORTH_FLOP", 1)
    form, shape = scoring_form(trained("mnist", (1, 28, 28)), "auto"), (1, 1, 28, 28)
    assert Rebuilder(form)(shape) is not form
    by_torch = scoring_form(form, "torch")
    assert Rebuilder(by_torch)(shape) is by_torch


def test_a_form_can_be_copied_and_pickled() -> None:
    form, x = scoring_form(trained("mnist", (1, 28, 28)), "openvino"), torch.rand(2, 1, 28, 28)
    wanted = Rebuilder(form)(x.shape)(x).x
    for copied in (copy.deepcopy(form), pickle.loads(pickle.dumps(form))):
        assert torch.equal(Rebuilder(copied)(x.shape)(x).x, wanted)


def test_only_openvino_takes_the_threads_of_torch() -> None:
    form, shape = scoring_form(trained("mnist", (1, 28, 28)), "openvino"), (1, 1, 28, 28)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for rebuild, threads in ((form, 2), (form.forward, 2), (Rebuilder(form)(shape), 1)):
            with yielding_threads(rebuild):
                assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_openvino_for_an_accelerator_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    with pytest.raises(ConfigError, match="scores on the CPU, and the model is on cuda; use `device='cpu'`"):
        Detector(engine="openvino")
    Detector(engine="openvino", device="cpu")


LET_GO_IN_A_THREAD = """
import gc, signal, threading
import torch
from torch import nn
from memae import Autoencoder
from memae.engine import Rebuilder, scoring_form
from memae.engine.openvino import OpenVinoAutoencoder

x = torch.zeros(2, 1, 8, 8)
held = [scoring_form(Autoencoder(nn.Conv2d(1, 4, 3), None, nn.ConvTranspose2d(4, 1, 3)), "openvino")]
Rebuilder(held[0])(x.shape)(x)
thread = threading.Thread(target=lambda: (held.clear(), gc.collect()))
thread.start()
thread.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_works_after_another_thread_has_let_a_model_go() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LET_GO_IN_A_THREAD], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_the_model_and_the_random_numbers_are_left_as_they_were() -> None:
    model, x = trained("image", (3, 70, 67)), torch.randn(2, 3, 70, 67)
    before, random = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    form = scoring_form(model, "openvino")
    with torch.inference_mode():
        Rebuilder(form)(x.shape)(x)
    assert torch.equal(torch.get_rng_state(), random)
    assert form.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in form.state_dict().items())


def test_a_network_in_training_is_left_to_torch() -> None:
    form = scoring_form(trained("mnist", (1, 28, 28)), "openvino").train()
    form(torch.randn(4, 1, 28, 28)).x.sum().backward()
    assert form.memory.items.grad is not None


# Which engine


def test_auto_takes_openvino_when_there_is_enough_to_score(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = trained("mnist", (1, 28, 28)), torch.randn(50, 1, 28, 28)
    form = scoring_form(model)
    monkeypatch.setattr(engine, "WORTH_FLOP", 100 * form.flop((1, 28, 28)))
    with torch.inference_mode():
        by_torch = model(x).x
        for _ in range(2):  # equal passes, equal scores
            rebuilder = Rebuilder(form)
            assert torch.equal(rebuilder(x.shape)(x).x, by_torch)
            found = rebuilder(x.shape)(x).x
            assert not torch.equal(found, by_torch)
            torch.testing.assert_close(found, by_torch, rtol=1e-4, atol=1e-5)


def test_work_is_counted_in_operations() -> None:
    form = scoring_form(Autoencoder(nn.Conv2d(1, 4, 3, padding=1), None, nn.Conv2d(4, 1, 1)))
    assert form.flop((1, 10, 20)) == 2 * 200 * (9 * 4 + 4)


def test_rows_and_what_is_asked_so_are_left_to_torch() -> None:
    asked: Engine
    for model, asked in ((trained("table", (12,)), "auto"), (trained("mnist", (1, 28, 28)), "torch")):
        assert choose(model, asked).name == "torch"
        assert scoring_form(model, asked) is model
        assert Rebuilder(model)((1 << 40, 12)) is model
    assert str(choose(model, "torch")) == "torch: asked for"


def test_without_openvino_torch_scores_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    model = trained("mnist", (1, 28, 28))
    assert scoring_form(model) is model
    assert "pip install 'memae[openvino]'" in choose(model).reason
    with pytest.raises(MissingExtraError, match=r"`engine='openvino'` needs .* pip install 'memae\[openvino\]'"):
        scoring_form(model, "openvino")


def test_a_model_on_another_device_is_left_to_torch() -> None:
    model = trained("mnist", (1, 28, 28)).to("meta")
    assert choose(model) == ("torch", "the model is on meta")
    with pytest.raises(ConfigError, match=r"`engine='openvino'` scores on the CPU, and the model is on meta"):
        choose(model, "openvino")


def test_an_unknown_engine_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"`engine='onnx'`: give 'auto', 'torch', 'openvino'"):
        choose(trained("mnist", (1, 28, 28)), "onnx")  # type: ignore[arg-type]  # which is what the test is about


class Stubborn(nn.Conv2d):
    """Asks for a number in the middle, which no graph has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (2.0 if float(x.sum()) > 0 else 3.0)


def test_a_network_that_cannot_be_converted_is_left_to_torch_or_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "WORTH_FLOP", 1)
    model, x = Autoencoder(Stubborn(1, 2, 1), None, nn.Conv2d(2, 1, 1)).eval(), torch.rand(2, 1, 4, 4)
    form = scoring_form(model)
    with pytest.warns(RuntimeWarning, match=r"OpenVINO cannot convert this network .*; torch scores it"):
        Rebuilder(form)(x.shape)
    assert Rebuilder(form)(x.shape) is form  # said once
    with pytest.raises(ConfigError, match=r"`engine='openvino'`: OpenVINO cannot convert this network"):
        in_openvino(model, (1, 4, 4))


def test_bfloat16_is_fast_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, fast in (({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert fast_bfloat16() == fast
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # a torch that does not tell
    assert not fast_bfloat16()


# Manners

ALONE = """
import sys, torch
from pathlib import Path
from memae.engine import Rebuilder, scoring_form
from memae.engine.openvino import OpenVinoAutoencoder
from memae.modality import build, preset_config

def ticks():
    tasks = Path("/proc/self/task").iterdir()
    return {task.name: sum(map(int, (task / "stat").read_text().rsplit(")")[-1].split()[11:13])) for task in tasks}

shape = 8, 3, 96, 96
form = Rebuilder(scoring_form(build(preset_config("image", "image"), shape[1:]), "openvino"))(shape)
with torch.inference_mode():
    form(torch.rand(shape))
    before = ticks()
    for _ in range(200):
        form(torch.rand(shape))
*others, most = sorted(now - before.get(task, 0) for task, now in ticks().items())
print(sum(others) < most / 20, "openvino_telemetry" in sys.modules)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
def test_one_thread_is_one_thread_and_nothing_is_told_to_anyone(tmp_path: Path) -> None:
    limited = os.environ | {"OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", ALONE], env=limited, capture_output=True, text=True,
        check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["True", "False"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
