"""Memory that really runs out: processes with a limit on their address space, and no stand-in for the allocator."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from memae.engine.batch_limit import BatchLimit, ran_out
from memae.errors import DataError, OutOfMemoryError

PRELUDE = """
import json, resource, sys
import torch
from memae.engine.batch_limit import BatchLimit
from memae.modality import build, preset_config
from memae.progress import Warn

said = []

def progress(event):
    if isinstance(event, Warn):
        said.append(event.message)

def limit(megabytes):
    pages = int(open("/proc/self/statm").read().split()[0])
    top = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (top, -1))

torch.manual_seed(0)
model = build(preset_config("table-paper", "table"), (64,))
"""

SCORE = """
import memae.engine.scoring
from memae.engine.scoring import Scorer
from memae.table.scoring import row_errors

x = torch.randn(400_000, 64)
wanted = Scorer(model, row_errors, BatchLimit("scoring"), 50, 4096).scores(x)
memae.engine.scoring.BATCH_BYTES = memae.engine.scoring.WEIGHT_BYTES = 1 << 40  # all at once
batch = BatchLimit("scoring", progress)
limit(150)
scores = Scorer(model, row_errors, batch, 50, 4096).scores(x)
print(json.dumps({"said": said, "most": batch.most, "off": float(abs(scores - wanted).max())}))
"""

TRAIN = """
import copy
from memae.config import TrainConfig
from memae.training.objective import ReconstructionObjective
from memae.training.loop import train

x = torch.randn(200_000, 64)
settings = TrainConfig(epochs=1, batch_size=200_000, patience=0)
objective = ReconstructionObjective(reduction="mean")
whole, halved = copy.deepcopy(model), copy.deepcopy(model)
both = {"objective": objective, "settings": settings, "seed": 0, "device": "cpu"}
train(copy.deepcopy(model), x[:1000], None, **both)  # imports need room as well
limit(150)
history = train(halved, x, None, progress=progress, **both)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
first = train(whole, x, None, **both)
off = max(float((a - b).abs().max()) for a, b in zip(whole.parameters(), halved.parameters()))
loss = history.records[0].loss / first.records[0].loss
facts = {"said": said, "most": history.samples_at_once, "before": first.samples_at_once}
print(json.dumps({**facts, "off": off, "loss": loss, "rate": settings.learning_rate}))
"""


START = """
import memae.training.phases as phases

x = torch.randn(400_000, 64)
order = torch.arange(len(x))

def encodings(some, progress):
    # as of the preset "table", whose memory is filled when the network is trained
    return phases._encodings(model, x, some, len(x), False, progress)

wanted = encodings(order[:1000], None)
phases.INITIAL_BYTES = 1 << 40  # all at once
limit(150)
found = encodings(order, progress)
print(json.dumps({"said": said, "found": len(found), "off": float((found[:1000] - wanted).abs().max())}))
"""

HELD_OUT = """
import memae.training.loop
from memae.config import TrainConfig
from memae.training.objective import ReconstructionObjective
from memae.training.loop import train

x, held_out = torch.randn(1000, 64), torch.randn(400_000, 64)
settings = TrainConfig(epochs=1, patience=1)
objective = ReconstructionObjective(reduction="mean")
both = {"objective": objective, "settings": settings, "seed": 0, "device": "cpu"}
state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
wanted = train(model, x, held_out, **both).records[0].held_out_loss
model.load_state_dict(state)
memae.training.loop.VALIDATION_SAMPLES = len(held_out)
memae.training.loop.VALIDATION_BYTES = 1 << 40  # all at once
limit(150)
found = train(model, x, held_out, progress=progress, **both).records[0].held_out_loss
print(json.dumps({"said": said, "found": found, "wanted": wanted}))
"""


def run(code: str) -> Any:
    env = os.environ | {
        "MALLOC_ARENA_MAX": "1"
    }  # an arena of a thread reserves 64 MB of addresses and uses little
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, check=False, timeout=280, env=env
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


needs_limit = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")


@needs_limit
@pytest.mark.parametrize(
    ("threads", "said"), [(1, "400,000 samples at once; now 200,000"), (2, "200,000 samples at once; now 100,000")]
)
def test_scoring_halves_the_batch_says_so_and_finds_the_same_scores(threads: int, said: str) -> None:
    found = run(f"torch.set_num_threads({threads})\n{SCORE}")
    assert found["said"][0] == f"out of memory while scoring {said}"
    assert found["most"] < 400_000
    assert found["off"] < 1e-5


@needs_limit
def test_training_takes_a_batch_in_parts_whose_gradients_add_up_to_the_same_step() -> None:
    found = run(TRAIN)
    assert found["said"][0] == "out of memory while training on 200,000 samples at once; now 100,000"
    assert found["most"] < 200_000
    assert found["before"] is None
    assert found["loss"] == pytest.approx(1, rel=1e-5)
    assert found["off"] < 0.1 * found["rate"]  # a step of Adam is as long as the rate


@needs_limit
def test_a_memory_is_started_from_fewer_samples_at_once() -> None:
    found = run(START)
    assert found["said"][0] == "out of memory while starting the memory from 400,000 samples at once; now 200,000"
    assert found["found"] == 400_000
    assert found["off"] < 1e-6


@needs_limit
def test_the_held_out_loss_is_found_of_fewer_samples_at_once() -> None:
    found = run(HELD_OUT)
    assert (
        found["said"][0] == "out of memory while finding the held-out loss of 400,000 samples at once; now 200,000"
    )
    assert found["found"] == pytest.approx(found["wanted"], rel=1e-5)


def test_what_is_no_lack_of_memory_passes_through() -> None:
    limit = BatchLimit("scoring")
    with pytest.raises(RuntimeError, match="shapes"):
        limit.halve(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 8)
    assert limit.most is None


def test_the_least_that_does_not_fit_is_an_error_with_the_cure() -> None:
    limit = BatchLimit("training on", least=2)
    with pytest.raises(
        OutOfMemoryError, match=r"training on 3 samples at once, the least .* close other programs"
    ):
        limit.halve(MemoryError(), 3)


def test_a_real_allocation_that_cannot_be_made_is_known() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert ran_out(error.value)
    assert ran_out(MemoryError())
    assert not ran_out(DataError("x: out of memory"))
    assert not ran_out(ValueError("out of memory"))


def test_what_fits_is_remembered() -> None:
    limit = BatchLimit("scoring")
    assert limit.fit(100) == 100
    limit.halve(MemoryError(), 100)
    assert (limit.fit(100), limit.fit(20)) == (50, 20)
    limit.halve(MemoryError(), 20)
    limit.halve(MemoryError(), 50)  # of a thread that began before
    assert limit.fit(100) == 10
