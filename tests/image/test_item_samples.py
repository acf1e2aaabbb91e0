import torch

from memae.image.item_samples import SIDE_PX, NearestPlaces
from memae.memory.memae import MemAE

ROWS, COLUMNS, PLACE_PX = 4, 6, 16


def test_each_item_gets_the_patch_around_the_place_nearest_to_it_over_all_batches() -> None:
    memory = MemAE(3, 4)
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(5, ROWS * COLUMNS, 4, generator=generator)
    wanted = [(3, 8), (0, 23), (4, 0)]  # image and place
    with torch.no_grad():
        memory.items.copy_(torch.stack([7 * queries[image, place] for image, place in wanted]))
    queries[1, 2] = 0  # no image there
    # each px says where it is
    rows, columns = torch.arange(ROWS * PLACE_PX), torch.arange(COLUMNS * PLACE_PX)
    images = torch.stack([(image * 10_000 + rows[:, None] * 100 + columns)[None].float() for image in range(5)])
    nearest = NearestPlaces(memory, (ROWS, COLUMNS))
    for part in queries.split(2):
        nearest.see(memory.read(part))
    patches = nearest.patches(images)
    assert patches.shape == (3, 1, SIDE_PX, SIDE_PX)
    tops = []
    for image, place in wanted:
        row, column = divmod(place, COLUMNS)
        top = min(max(16 * row + 8 - 16, 0), 64 - 32)
        left = min(max(16 * column + 8 - 16, 0), 96 - 32)
        tops.append(image * 10_000 + top * 100 + left)
    span = max(tops) + 31 * 101 - min(tops)
    expected = [round(255 * (top - min(tops)) / span) for top in tops]
    assert all(abs(int(patch[0, 0, 0]) - one) <= 1 for patch, one in zip(patches, expected, strict=True))


def test_a_patch_of_an_image_smaller_than_it_is_grey_beyond() -> None:
    memory = MemAE(1, 4, shrinkage=0.5)
    nearest = NearestPlaces(memory, (1, 1))
    nearest.see(memory.read(torch.ones(1, 1, 4)))
    image = torch.zeros(1, 1, 20, 20)
    image[:, :, :10] = 1
    (patch,) = nearest.patches(image)
    assert patch.shape == (1, 32, 32)
    assert patch[0, 0, 0] == 255 and patch[0, 19, 19] == 0 and 120 <= patch[0, 31, 31] <= 135
