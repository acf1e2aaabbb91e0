from math import log

import numpy as np
import pytest
import torch

from experiments.methods.pixelcnn import MaskedConv, PixelCNN, negative_log_likelihood, pixelcnn

SIDE = 9


@pytest.fixture
def model(request: pytest.FixtureRequest) -> PixelCNN:
    colours = request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PixelCNN(colours, features=12, blocks=2).eval()


def seen_by(model: PixelCNN, colours: int, place: tuple[int, int, int]) -> torch.Tensor:
    """Which values (C, H, W) of an image the logits of one value depend on."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        x = torch.rand(1, colours, SIDE, SIDE, requires_grad=True)
    colour, row, column = place
    model(x)[0, :, colour, row, column].square().sum().backward()
    return x.grad[0] != 0


@pytest.mark.parametrize("model", [1, 3], indirect=True)
def test_a_value_is_told_from_what_comes_before_it_alone(model: PixelCNN) -> None:
    colours = model.first.in_channels
    order = (
        torch.arange(SIDE * SIDE * colours).reshape(SIDE, SIDE, colours).permute(2, 0, 1)
    )  # row, column, colour
    for colour in range(colours):
        for row, column in ((0, 0), (4, 4), (4, 0), (SIDE - 1, SIDE - 1)):
            seen = seen_by(model, colours, (colour, row, column))
            assert not (seen & (order >= order[colour, row, column])).any()


@pytest.mark.parametrize("model", [3], indirect=True)
def test_a_value_is_told_from_its_neighbours_and_the_colours_before(model: PixelCNN) -> None:
    red, green, blue = (seen_by(model, 3, (colour, 4, 4)) for colour in range(3))
    for seen in (red, green, blue):
        assert seen[:, 4, 3].all() and seen[:, 3, 4].all()
    assert [seen[:, 4, 4].tolist() for seen in (red, green, blue)] == [
        [False, False, False],
        [True, False, False],
        [True, True, False],
    ]


@pytest.mark.parametrize("model", [1, 3], indirect=True)
def test_the_logits_are_256_for_each_value(model: PixelCNN) -> None:
    colours = model.first.in_channels
    assert model(torch.rand(2, colours, 5, 7)).shape == (2, 256, colours, 5, 7)


def test_a_model_that_knows_nothing_gives_every_level_the_same_chance() -> None:
    model = PixelCNN(1, features=4, blocks=1)
    torch.nn.init.zeros_(model.last[-1][-1].weight)
    torch.nn.init.zeros_(model.last[-1][-1].bias)
    found = negative_log_likelihood(model, torch.randint(0, 256, (3, 1, 5, 5)) / 255)
    assert found.tolist() == pytest.approx([log(256)] * 3, rel=1e-5)


def test_the_likelihood_is_of_the_levels_of_the_pixels() -> None:
    model = PixelCNN(1, features=4, blocks=1)
    torch.nn.init.zeros_(model.last[-1][-1].weight)
    with torch.no_grad():
        model.last[-1][-1].bias.copy_(torch.arange(256) * 0.1)
    levels = torch.arange(256).reshape(1, 1, 16, 16)
    each = negative_log_likelihood(model, (levels / 255).permute(3, 0, 1, 2).reshape(16, 1, 4, 4))
    wanted = -torch.log_softmax(torch.arange(256) * 0.1, dim=0)[levels.permute(3, 0, 1, 2).reshape(16, 16)]
    assert each.tolist() == pytest.approx(wanted.mean(dim=1).tolist(), rel=1e-5)


def test_a_mask_of_one_colour_has_no_centre_in_a_and_one_in_b() -> None:
    a, b = (MaskedConv(2, 2, 3, 1, itself=itself).mask[0, 0].tolist() for itself in (False, True))
    assert a == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert b == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]


def test_rows_of_a_table_are_refused() -> None:
    with pytest.raises(ValueError, match="images"):
        pixelcnn()(np.zeros((20, 5), dtype=np.float32), 0)
