import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from memae.memory.clustering import kmeans


class Told:
    def __init__(self):
        self.stages, self.open, self.done = [], [], {}

    def begin_stage(self, stage):
        self.stages.append(stage)
        self.open.append(stage.name)

    def advance(self, count, place=None):
        self.done[self.open[-1]] = self.done.get(self.open[-1], 0) + count

    def end_stage(self):
        self.open.pop()

    def warn(self, message):
        raise AssertionError(message)


def points(kind, count, columns):
    x = torch.randn(count, columns, generator=torch.Generator().manual_seed(3))
    return {"cloud": x, "rectified": x.relu(), "few different": x[torch.arange(count) % 40], "whole": x.round()}[
        kind
    ]


@pytest.mark.parametrize("kind", ["cloud", "rectified", "few different", "whole"])
@pytest.mark.parametrize(("count", "columns", "clusters"), [(2000, 8, 100), (400, 3, 30), (50, 2, 49), (60, 5, 1)])
def test_the_centres_are_those_of_the_library(kind, count, columns, clusters):
    x = points(kind, count, columns)
    expected = MiniBatchKMeans(clusters, random_state=5, n_init=1, batch_size=max(1024, 3 * clusters)).fit(
        x.numpy()
    )
    assert torch.equal(kmeans(x, clusters, 5), torch.from_numpy(expected.cluster_centers_))


def test_every_seed_and_every_round_is_told():
    told, x = Told(), points("cloud", 5000, 4)
    kmeans(x, 200, 0, told)
    assert not told.open
    assert [(stage.name, stage.unit, stage.total and stage.total.samples) for stage in told.stages] == [
        ("moving the items", "rounds", None),
        ("seeding the memory", "items", 200),
    ]
    assert told.done["seeding the memory"] == 200
    assert told.done["moving the items"] > 5


def test_numbers_of_another_type_come_back_as_they_were():
    x = points("cloud", 300, 4).double()
    assert kmeans(x, 10, 0).dtype == torch.float64
    assert np.isfinite(kmeans(x, 10, 0).numpy()).all()
