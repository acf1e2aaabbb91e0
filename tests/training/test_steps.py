"""The length of a training in steps, which that of a fold takes from the model it stands for."""

import pytest

from memae.config import Config
from memae.modality import preset_config
from memae.training.steps import as_many_steps, epochs_of, steps_of


def steps(config: Config, samples: int) -> int:
    return epochs_of(config.train, samples) * steps_of(samples, config.train)


@pytest.mark.parametrize(
    ("preset", "kind"), [("image", "image"), ("small", "image"), ("table", "table"), ("video", "video")]
)
@pytest.mark.parametrize(
    ("samples", "whole"), [(32, 64), (290, 581), (400, 500), (3, 5), (7000, 14_001), (60, 60)]
)
def test_a_training_on_a_part_takes_as_many_steps(preset: str, kind: str, samples: int, whole: int) -> None:
    config = preset_config(preset, kind)
    part = as_many_steps(config, samples, whole)
    assert 0 <= steps(part, samples) - steps(config, whole) < steps_of(samples, config.train)
    warm, warm_whole = part.memory.warmup_epochs, config.memory.warmup_epochs
    assert warm * steps_of(samples, config.train) >= warm_whole * steps_of(whole, config.train)
    assert (part.train.patience > 0) == (config.train.patience > 0)


def test_an_untrained_network_stays_untrained() -> None:
    config = preset_config("image", "image")
    config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 0})})
    assert as_many_steps(config, 10, 20).train.epochs == 0
