import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from experiments.methods.detectors import detector
from experiments.methods.neural import Problem
from experiments.methods.sparse_code import penalised, sparse_code, weight_for
from memae.training.loop import train
from memae.training.objective import ReconstructionObjective

PIXELS, DIGIT = load_digits(return_X_y=True)
IMAGES = (PIXELS * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)[DIGIT == 6]
ROWS = np.random.default_rng(0).normal(size=(150, 6)).astype(np.float32)
EPOCHS = 3


def of_network(network: str) -> str:
    return network


@pytest.mark.parametrize("fit", [IMAGES, ROWS], ids=["images", "rows"])
def test_without_a_penalty_it_is_the_plain_autoencoder(fit: np.ndarray) -> None:
    plain = detector(of_network, memory={"enabled": False}, train={"epochs": EPOCHS})(fit, 3)
    # the gradients are from compiled code for the one and from autograd for the other
    assert sparse_code(0.0, epochs=EPOCHS)(fit, 3).score(fit) == pytest.approx(plain.score(fit), rel=1e-3)
    assert not np.allclose(sparse_code(epochs=EPOCHS)(fit, 3).score(fit), plain.score(fit))


@pytest.mark.parametrize("fit", [IMAGES, ROWS], ids=["images", "rows"])
@torch.no_grad()
def test_the_weight_makes_the_penalty_its_share_of_the_first_loss(fit: np.ndarray) -> None:
    problem = Problem.of(fit, 0, of_network)
    model, training = problem.autoencoder(), problem.prepared.training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight = weight_for(0.1, model, training, "sum")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.train()
    plain = float(ReconstructionObjective(reduction="sum")(model, training[:]).loss)
    whole = float(penalised(weight, "sum")(model, training[:]).loss)
    assert (whole - plain) / whole == pytest.approx(0.1, rel=1e-4)


@torch.no_grad()
def test_the_penalty_by_hand() -> None:
    problem = Problem.of(ROWS, 0, of_network)
    model, x = problem.autoencoder(), problem.prepared.training[:]
    norm = np.abs(model.encoder(x).numpy()).sum(axis=1).mean()
    without, with_it = (float(penalised(weight, "sum")(model, x).loss) for weight in (0.0, 0.5))
    assert with_it - without == pytest.approx(0.5 * norm, rel=1e-4)


def test_the_penalty_makes_codes_smaller() -> None:
    def norm(weight: float) -> float:
        problem = Problem.of(ROWS, 0, of_network, epochs=30)
        model, training = problem.autoencoder(), problem.prepared.training
        train(model, training, None, objective=penalised(weight, "sum"), settings=problem.config.train, seed=0)
        return float(model.encoder(training[:]).detach().abs().mean())

    assert norm(1.0) < 0.9 * norm(0.0)
    assert norm(1.0) < norm(0.1) < norm(0.0)
