"""Several kinds of normal in one model: a threshold for each, and which one a sample is taken for."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from memae import Detector
from memae.categories import GivenCategories, HeldOutCategories, SampleCategories
from memae.errors import ConfigError, DataError
from memae.report.runs import score_to_files
from memae.threshold import Threshold
from tests.small_detectors import DIGITS, PIXELS

BRIEF = {"train": {"epochs": 3}, "memory": {"num_items": 20}, "threshold": {"false_alarm_rate": 0.02}}
RATE = 0.02


def presses(rows: int, seed: int) -> pd.DataFrame:
    """Rows of two machines, of which the second one scatters far more; their names look like numbers."""
    drawn = np.random.default_rng(seed)
    calm, wild = drawn.normal(0, 0.3, (rows, 4)), drawn.normal(6, 2, (rows, 4))
    frame = pd.DataFrame(np.concatenate([calm, wild]), columns=list("abcd"))
    return frame.assign(machine=np.repeat(["01", "02"], rows)).sample(frac=1, random_state=seed, ignore_index=True)


@pytest.fixture(scope="module")
def of_presses() -> Detector:
    return Detector(settings=BRIEF).fit(presses(600, 0), category="machine")


@pytest.mark.parametrize("said", [True, False], ids=["said", "taken by the model"])
def test_the_false_alarm_rate_is_that_of_each_category(of_presses: Detector, said: bool) -> None:
    rows = presses(3000, 1)
    verdicts = of_presses.detect(rows if said else rows.drop(columns="machine"))
    assert verdicts.categories is not None
    assert (np.array(verdicts.categories.texts) == rows.machine).mean() > 0.99
    assert verdicts.categories.given.all() == said
    for machine in ("01", "02"):
        assert verdicts.is_anomaly[rows.machine == machine].mean() < 2.5 * RATE
    # one threshold for both would let the calm machine do what it likes: all of its rows lie far below
    assert verdicts.scores[rows.machine == "01"].max() < verdicts.threshold
    assert verdicts.is_anomaly[rows.machine == "01"].any()


def test_a_plain_autoencoder_tells_categories_by_its_encoding() -> None:
    rows = presses(300, 2)
    settings = BRIEF | {"memory": {"enabled": False}}
    found = Detector(settings=settings).fit(rows, category="machine").detect(rows.drop(columns="machine"))
    assert found.categories is not None
    assert (np.array(found.categories.texts) == rows.machine).mean() > 0.99


def test_categories_may_come_as_an_array() -> None:
    rows = presses(100, 7)
    values: Any = rows.machine.to_numpy()
    detector = Detector(settings={"train": {"epochs": 1}}).fit(rows.drop(columns="machine"), category=values)
    found = detector.detect(rows.drop(columns="machine")).categories
    assert found is not None
    assert found.names == ("01", "02")
    assert not found.given.any()


def test_a_saved_model_knows_its_categories(of_presses: Detector, tmp_path: Path) -> None:
    of_presses.save(tmp_path / "model")
    loaded, rows = Detector.load(tmp_path / "model"), presses(200, 3).drop(columns="machine")
    first, second = of_presses.detect(rows, explained="all"), loaded.detect(rows, explained="all")
    assert list(first) == list(second)
    assert [one.category for one in second.explanations] == [verdict.category for verdict in second]
    assert [one.p_value for one in second.explanations] == pytest.approx(second.p_values)
    assert loaded.threshold.facts == of_presses.threshold.facts


def test_a_moved_threshold_moves_that_of_each_category(of_presses: Detector) -> None:
    rows = presses(500, 4)
    strict, loose = (of_presses.detect(rows, false_alarm_rate=rate).is_anomaly for rate in (0.02, 0.2))
    for machine in ("01", "02"):
        own = (rows.machine == machine).to_numpy()
        assert strict[own].sum() < loose[own].sum() < 0.35 * own.sum()


def test_rows_of_scores_name_the_category(of_presses: Detector, tmp_path: Path) -> None:
    rows = presses(100, 5)
    rows.loc[0, "machine"] = "unheard of"
    found = score_to_files(of_presses, of_presses.open(rows), tmp_path / "scores.csv", {})
    table = pd.read_csv(tmp_path / "scores.csv", dtype={"category": str})
    assert (table.category[1:] == rows.machine[1:]).all()
    assert table.category[0] in ("01", "02")
    assert any("199 said by the source, 1 taken by the model" in line for line in found.lines)
    assert sum(one["samples"] for one in found.facts["categories"].values()) == 200


def test_what_would_lose_the_categories_is_refused(of_presses: Detector, tmp_path: Path) -> None:
    from memae.export import export_model

    rows = presses(50, 6)
    with pytest.raises(ConfigError, match="cannot be taught"):
        of_presses.teach(rows)
    with pytest.raises(ConfigError, match="threshold for each"):
        of_presses.recalibrate(rows)
    with pytest.raises(ConfigError, match="does not learn from a stream"):
        of_presses.adapt(rows)
    with pytest.raises(ConfigError, match="exported file does not know"):
        export_model(of_presses.artifact, tmp_path / "export", "onnx")


def test_images_in_folders(tmp_path: Path) -> None:
    for digit in (0, 1):
        (tmp_path / f"digit {digit}").mkdir()
        for number, pixels in enumerate(PIXELS[digit == DIGITS].reshape(-1, 8, 8)):
            picture = np.kron(pixels * 15, np.ones((2, 2))).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / f"digit {digit}" / f"{number}.png")
    detector = Detector(settings=BRIEF).fit(tmp_path, category="folders")
    below, above = detector.detect(tmp_path / "digit 0"), detector.detect(tmp_path)
    assert below.categories is not None
    assert above.categories is not None
    assert above.categories.given.all()
    assert not below.categories.given.any()  # opened from within, the folder does not say it
    assert (below.categories.numbers == 0).mean() > 0.9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a"] * 20, "all samples are of the category 'a'"),
        (["a"] * 17 + ["b"] * 3, "the category 'b' has 3 samples"),
        (["a"] * 19 + [None], "has no value for sample 19"),
        (["a"] * 19, "19 values for 20 samples"),
    ],
)
def test_categories_that_cannot_be_used(values: list[str | None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        GivenCategories.of(values, 20, "rows")


def test_images_have_no_columns() -> None:
    with pytest.raises(ConfigError, match="images have no columns"):
        GivenCategories.of_files("machine", ["a/1.png"], "parts")
    with pytest.raises(DataError, match=r"1\.png lies in no folder"):
        GivenCategories.of_files("folders", ["1.png"], "parts")


def test_a_category_with_too_few_held_out_samples_is_cautious_and_says_so() -> None:
    drawn = np.random.default_rng(0)
    scores = np.concatenate([drawn.uniform(0, 1, 500), drawn.uniform(0, 3, 5)])
    numbers = np.repeat([0, 1], [500, 5])
    held_out = HeldOutCategories(("many", "few"), numbers, numbers)
    threshold = Threshold.fit(scores, 0.01, categories=held_out)
    many, few = threshold.of_categories
    assert many.caveat is None
    assert few.caveat is not None
    assert "5 held-out samples are too few" in few.caveat
    assert few.value == max(scores[500:].max(), threshold.value)
    given = np.ones(4, dtype=bool)
    tried = np.array([0.5, few.value, np.nextafter(few.value, 9), 9.0])
    of = SampleCategories(("many", "few"), np.ones(4, dtype=np.int64), given)
    assert threshold.flags(tried, of).tolist() == [False, False, True, True]
    assert (threshold.p_values(tried, of) <= 0.01).tolist() == [False, False, True, True]


def test_the_rate_of_what_a_model_takes_holds_however_wrong_it_is() -> None:
    """Half of the samples of the hard category are taken for the easy one."""
    drawn = np.random.default_rng(1)
    hard = drawn.random(40_000) < 0.3
    scores = np.where(hard, drawn.exponential(3, hard.size), drawn.exponential(1, hard.size))
    taken = np.where(hard & (drawn.random(hard.size) < 0.5), 0, hard.astype(np.int64))
    half = hard.size // 2
    held_out = HeldOutCategories(("easy", "hard"), hard[:half].astype(np.int64), taken[:half])
    threshold = Threshold.fit(scores[:half], 0.01, categories=held_out)
    for numbers, given in ((taken, False), (hard.astype(np.int64), True)):
        of = SampleCategories(("easy", "hard"), numbers[half:], np.full(half, given))
        flags = threshold.flags(scores[half:], of)
        for number in (0, 1):
            assert flags[numbers[half:] == number].mean() == pytest.approx(0.01, abs=0.004)
