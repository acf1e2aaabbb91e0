import pytest
import torch
import torch.nn.functional as F
from torch import nn

from memae import native
from memae.encoded import Pixels
from memae.image.networks import Fold, Unfold
from memae.image.squares import Layer, Memory, Network
from memae.memory.ops import read_memory

pytestmark = pytest.mark.skipif(not native.available(), reason="memae was installed without a compiler")


@pytest.fixture(autouse=True)
def seeded():
    """A weight that falls on its threshold by chance would be dropped by one and kept by the other."""
    torch.manual_seed(0)


SIZE = (28, 22)  # px: the last squares of a row are cut
SQUARES = (7, 6)


def layers(*modules):
    """Each with a ReLU but the last."""
    return [Layer(module, relu=place + 1 < len(modules)) for place, module in enumerate(modules)]


def pair(kernel=3, stride=2, padding=1, inputs=16, inner=32, size=SQUARES):
    """A convolution of squares and the transposed one that undoes its size."""
    down = nn.Conv2d(inputs, inner, kernel, stride, padding)
    extra = tuple((side + 2 * padding - kernel) % stride for side in size)
    return down, nn.ConvTranspose2d(inner, inputs, kernel, stride, padding, extra)


def by_torch(down, memory, up, x):
    """Codes, errors of squares, and the rebuilt squares."""
    codes = Fold(4)(x)
    for layer in down:
        codes = layer.convolution(codes)
        codes = codes.relu() if layer.relu else codes
    made = codes
    if memory is not None:
        read = read_memory(
            codes.movedim(1, -1).flatten(0, 2),
            memory.items,
            similarity="cosine" if memory.cosine else "dot",
            temperature=memory.temperature,
            shrinkage=memory.threshold * len(memory.items),
        )
        made = read.value.view(len(x), *codes.shape[2:], -1).movedim(-1, 1)
    for layer in up:
        made = layer.convolution(made)
        made = made.relu() if layer.relu else made
    whole = Unfold(4, *x.shape[2:])(made)
    return codes, F.avg_pool2d((x - whole).square().mean(dim=1), 4, ceil_mode=True), made


def assert_same(down, memory, up, x):
    network = Network(down, memory, up, tuple(-(-side // 4) for side in x.shape[2:]))
    with torch.no_grad():
        codes, errors, made = by_torch(down, memory, up, x)
    found, rebuilt = network.errors(Pixels.of(x), keep=True)
    torch.testing.assert_close(network.encode(Pixels.of(x)), codes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rebuilt, made, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, errors, rtol=1e-4, atol=0)
    assert torch.equal(network.errors(Pixels.of(x))[0], found)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        (3, 2, 1),
        (3, 1, 1),
        (1, 1, 0),
        (2, 2, 0),
        (4, 2, 1),
        (5, 3, 2),
        (1, 2, 0),
        (5, 1, 2),
        (3, 2, 0),
        (16, 4, 7),
    ],
)
def test_convolutions_and_their_transposes_are_those_of_torch(kernel, stride, padding):
    down, up = pair(kernel, stride, padding)
    assert_same(layers(down), None, layers(up), torch.randn(3, 1, *SIZE))


@pytest.mark.parametrize("inner", [16, 32, 48, 64, 80, 112, 144])
def test_any_number_of_groups_of_channels(inner):
    down, up = pair(inner=inner)
    assert_same(layers(down), None, layers(up), torch.randn(2, 1, *SIZE))


@pytest.mark.parametrize("size", [(4, 4), (9, 70), (33, 5), (31, 64), (13, 13), (16, 34)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_any_size(size, channels):
    squares = tuple(-(-side // 4) for side in size)
    first = pair(inputs=16 * channels, inner=16, size=squares)
    behind = tuple((side + 1) // 2 for side in squares)
    second = pair(inputs=16, inner=32, size=behind)
    x = torch.randn(2, channels, *size)
    assert_same(layers(first[0], second[0]), None, layers(second[1], first[1]), x)


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("items", [1, 15, 16, 50])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.98])
def test_the_memory_is_the_one_of_torch(cosine, items, threshold):
    down, up = pair()
    memory = Memory(torch.randn(items, 32), cosine, threshold / items, 0.2)
    assert_same(layers(down), memory, layers(up), torch.randn(3, 1, *SIZE))


def test_where_no_item_is_above_the_threshold_the_nearest_stays():
    down, up = pair()
    memory = Memory(torch.randn(50, 32), True, 0.9999, 1.0)
    assert_same(layers(down), memory, layers(up), torch.randn(3, 1, *SIZE))


@pytest.mark.parametrize(("threshold", "read"), [(0.0, [5.0] * 3), (0.04, [5.0] * 3), (0.2, [1.0, 9.0, 9.0])])
def test_a_code_of_zeros_reads_all_items_alike_or_the_first_of_them(threshold, read):
    down, up = pair()
    for parameter in (*down.parameters(), *up.parameters()):
        nn.init.zeros_(parameter)
    up.bias = None
    with torch.no_grad():
        up.weight[:3, :, 1, 1] = torch.eye(16)[:3]  # the first three numbers of a square are those of the value
    items = torch.zeros(10, 32)
    items[0, :3] = torch.tensor([1.0, 9.0, 9.0])
    items[1:, :3] = (50 - items[0, :3]) / 9
    network = Network(layers(down), Memory(items, True, threshold, 1.0), layers(up), SQUARES)
    made = network.errors(Pixels.of(torch.zeros(1, 1, *SIZE)), keep=True)[1]
    assert made[0, :3, 2, 2].tolist() == pytest.approx(read)


@pytest.mark.parametrize("width", native.widths())
def test_each_width_of_registers_finds_the_same(monkeypatch, width):
    library = native.loaded(width)
    assert library is not None
    monkeypatch.setattr(native, "library", lambda: library)
    down, up = pair(inputs=48)
    memory = Memory(torch.randn(30, 32), True, 0.05, 0.3)
    assert_same(layers(down), memory, layers(up), torch.randn(3, 3, *SIZE))


def test_bytes_are_encoded_where_they_are_read():
    down, up = pair(inputs=48)
    network = Network(layers(down), None, layers(up), SQUARES)
    pixels = torch.randint(0, 256, (4, 3, *SIZE), dtype=torch.uint8)
    shift, factor = torch.rand(4) * 100, torch.rand(4)
    encoded = (pixels - shift[:, None, None, None]) * factor[:, None, None, None]
    as_bytes, as_floats = network.errors(Pixels(pixels, shift, factor)), network.errors(Pixels.of(encoded))
    assert torch.equal(as_bytes[0], as_floats[0])


def test_threads_and_other_images_change_nothing():
    down, up = pair(inner=64, size=(32, 32))
    network = Network(layers(down), Memory(torch.randn(20, 64), True, 0.05, 0.5), layers(up), (32, 32))
    x, threads = torch.randn(24, 1, 128, 128), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        together, codes = network.errors(Pixels.of(x))[0], network.encode(Pixels.of(x))
        torch.set_num_threads(3)
        for _ in range(10):
            assert torch.equal(network.errors(Pixels.of(x))[0], together)
            assert torch.equal(network.encode(Pixels.of(x)), codes)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(network.errors(Pixels.of(x[4:5]))[0], together[4:5])
    assert network.errors(Pixels.of(x[:0]))[0].shape == (0, 32, 32)


def test_what_is_no_number_stays_none_behind_a_relu():
    (down, up), between = pair(), nn.Conv2d(32, 32, 1)
    network = Network(layers(down, between), None, layers(up), SQUARES)
    x = torch.randn(2, 1, *SIZE)
    x[1, 0, 9, 9] = torch.nan
    errors, made = network.errors(Pixels.of(x), keep=True)
    assert torch.isfinite(errors[0]).all()
    assert torch.isnan(errors[1]).any()
    assert torch.isfinite(made[0]).all()
    assert torch.isnan(made[1]).any()


def test_a_network_keeps_the_weights_that_it_was_made_from():
    down, up = pair()
    network, x = Network(layers(down), None, layers(up), SQUARES), torch.randn(2, 1, *SIZE)
    before = network.errors(Pixels.of(x))[0]
    with torch.no_grad():
        for parameter in (*down.parameters(), *up.parameters()):
            parameter.zero_()
    assert torch.equal(network.errors(Pixels.of(x))[0], before)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 24, 3),
        nn.Conv2d(16, 32, 3, groups=2),
        nn.Conv2d(16, 32, 3, dilation=2),
        nn.Conv2d(16, 32, 3, padding="same"),
        nn.Conv2d(16, 32, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 32, (3, 1)),
        nn.Conv2d(16, 32, 3, (2, 1)),
        nn.Conv2d(16, 32, 3, padding=(1, 0)),
        nn.Conv2d(16, 32, 17, padding=8),
        nn.Conv2d(16, 32, 3).double(),
    ],
)
def test_layers_that_the_library_has_not_are_refused(layer):
    assert not Layer(layer, relu=True).fits
    with pytest.raises(ValueError, match="the compiled code has no layer Conv2d"):
        Network(layers(layer), None, layers(pair()[1]), SQUARES)


def test_layers_that_do_not_follow_each_other_are_refused():
    down, up = pair()
    with pytest.raises(ValueError, match="does not give what the encoder takes"):
        Network(layers(down), None, layers(pair(inner=16)[1]), SQUARES)
    with pytest.raises(ValueError, match="does not give what the encoder takes"):
        Network(layers(down), None, layers(nn.ConvTranspose2d(32, 16, 3, 2, 1, 0)), SQUARES)
    with pytest.raises(ValueError, match="layers do not follow each other: 32 channels"):
        Network(layers(down, nn.Conv2d(16, 32, 1)), None, layers(up), SQUARES)
    with pytest.raises(ValueError, match=r"items of 16 numbers.* codes of 32"):
        Network(layers(down), Memory(torch.randn(5, 16), True, 0.0, 1.0), layers(up), SQUARES)


def test_other_images_are_refused():
    down, up = pair()
    network = Network(layers(down), None, layers(up), SQUARES)
    x = torch.randn(2, 1, *SIZE)
    good = Pixels.of(x)
    for bad in (
        Pixels.of(torch.randn(2, 3, *SIZE)),
        Pixels.of(torch.randn(2, 1, 28, 28)),
        good._replace(values=x.double()),
        good._replace(values=x.to(torch.int8)),
        good._replace(values=torch.randn(2, 1, *SIZE[::-1]).mT),
        good._replace(shift=torch.zeros(1)),
        good._replace(factor=torch.ones(2, dtype=torch.float64)),
    ):
        for ask in (network.errors, network.encode):
            with pytest.raises(ValueError, match="do not fit the network"):
                ask(bad)
