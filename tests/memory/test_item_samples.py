from functools import partial

import numpy as np
import pytest
import torch

from memae.image.item_samples import picture_around
from memae.memory.item_samples import NEAREST, SIDE_PX, ItemSamples, NearestQueries
from memae.memory.memae import MemAE

ROWS, COLUMNS, PLACE_PX = 4, 6, 16


def queries_and_memory() -> tuple[torch.Tensor, MemAE, list[tuple[int, int]]]:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(5, ROWS * COLUMNS, 4, generator=generator)
    wanted, memory = [(3, 8), (0, 23), (4, 0)], MemAE(3, 4)  # image and place
    with torch.no_grad():
        memory.items.copy_(torch.stack([7 * queries[image, place] for image, place in wanted]))
    queries[1, 2] = 0  # no image there
    return queries, memory, wanted


def test_each_item_gets_the_patch_around_the_place_nearest_to_it_over_all_batches() -> None:
    queries, memory, wanted = queries_and_memory()
    # each px says where it is
    rows, columns = torch.arange(ROWS * PLACE_PX), torch.arange(COLUMNS * PLACE_PX)
    images = torch.stack([(image * 10_000 + rows[:, None] * 100 + columns)[None].float() for image in range(5)])
    nearest = NearestQueries(memory)
    for part in queries.split(2):
        nearest.see(memory.read(part))
    found = nearest.samples(partial(picture_around, images, (ROWS, COLUMNS)))
    assert found.pictures is not None and found.pictures.shape[1:] == (1, SIDE_PX, SIDE_PX)
    assert [found.keys[found.of(item)[0]] for item in range(3)] == [image for image, _ in wanted]
    first = [found.pictures[found.of(item)[0]].astype(int) for item in range(3)]
    assert all(np.all(np.diff(patch[0], axis=1) >= 0) for patch in first)
    image_order = np.argsort([image for image, _ in wanted])
    assert np.argsort([patch[0, 0, 0] for patch in first]).tolist() == image_order.tolist()


def test_the_nearest_samples_are_those_of_all_samples_at_once_and_differ() -> None:
    queries, memory, _ = queries_and_memory()
    nearest = NearestQueries(memory)
    for part in queries.split([1, 3, 1]):
        nearest.see(memory.read(part))
    found = nearest.samples()
    cosine = torch.nn.functional.normalize(memory.items, dim=1) @ torch.nn.functional.normalize(queries, dim=2).mT
    wanted = cosine.amax(dim=2).topk(NEAREST, dim=0).indices.T  # of samples, by item
    assert [[found.keys[place] for place in found.of(item)] for item in range(3)] == wanted.tolist()


def test_items_have_as_many_samples_as_there_are() -> None:
    memory = MemAE(2, 3, shrinkage=0.5, similarity="euclidean")
    nearest = NearestQueries(memory)
    nearest.see(memory.read(torch.randn(2, 1, 3)))
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    found = nearest.samples(row_of=lambda row: x[row])
    assert [sorted(found.of(item)) for item in range(2)] == [[0, 1], [0, 1]]
    assert found.rows is not None and np.array_equal(found.rows, x) and found.of(2) == []
    found.forget(np.array([True, False]))
    assert found.of(0) == [] and len(found.of(1)) == 2


def test_a_small_image_is_shown_whole_and_a_patch_at_its_edge_is_empty_beyond() -> None:
    image = torch.zeros(1, 1, 20, 20)
    image[:, :, :10] = 1
    assert picture_around(image, (), 0, 0).shape == (1, 20, 20)
    assert picture_around(torch.zeros(1, 3, 64, 48), (), 0, 0).shape == (3, 32, 24)
    patch = picture_around(image, (2, 2), 0, 0)
    assert (
        patch.shape == (1, 32, 32) and patch[0, 0, 0] == 1 and patch[0, 19, 19] == 0 and np.isnan(patch[0, 31, 31])
    )


def test_samples_come_back_from_a_file_with_keys_that_json_can_hold() -> None:
    found = ItemSamples(np.array([[1, 0], [0, -1]]), (0, 1), rows=np.zeros((2, 3), np.float32))
    found = found.named(lambda number: f"row \x1b {number} \udcff")
    loaded = ItemSamples.load(found.tensors(), found.keys, 2)
    assert loaded is not None and loaded.keys == found.keys and loaded.of(1) == [0]
    assert all(key.isprintable() and key.encode() for key in loaded.keys)
    for keys, items, why in ((found.keys[:1], 2, "not there"), (found.keys, 1, "shape")):
        with pytest.raises(ValueError, match=why):
            ItemSamples.load(found.tensors(), keys, items)


def test_patches_of_a_model_from_before_format_15_are_the_nearest_samples() -> None:
    patches = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    loaded = ItemSamples.load({"item_samples": patches}, [], 3)
    assert loaded is not None and loaded.of(1) == [1] and loaded.of(2) == [] and loaded.keys == ("", "")
