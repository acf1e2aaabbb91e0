import json

import numpy as np

from memae import Detector, Verdicts
from memae.types import Skipped
from tests.small_detectors import MALIGNANT, ROWS, fit

EVIL = "<img src=x onerror=alert(1)>"


def test_a_detector_tells_its_kind_shape_threshold_and_items() -> None:
    assert "not fitted" in Detector()._repr_html_()
    detector = fit(ROWS.rename(columns={"mean radius": EVIL}))
    shown = detector._repr_html_()
    assert detector.modality.plural in shown
    assert f"{detector.threshold.value:.6g}" in shown
    assert detector.memory is not None
    assert f"{detector.memory.counts.used} of 12 items used" in shown
    assert "8 columns" in shown
    assert EVIL not in shown


def test_verdicts_show_how_many_there_are_and_the_worst_first() -> None:
    detector = fit(ROWS)
    verdicts = detector.detect(MALIGNANT)
    shown = verdicts._repr_html_()
    assert f"{len(MALIGNANT)} samples, {verdicts.is_anomaly.sum()} anomalies" in shown
    worst = [verdicts.keys[row] for row in np.argsort(-verdicts.scores)[:10]]
    places = [shown.index(f'<th scope="row">{key}</th>') for key in worst]
    assert places == sorted(places)
    assert shown.count("<tr>") == 11


def test_names_of_verdicts_can_do_nothing() -> None:
    keys = [EVIL, "a\x1b[2J\udce9.png", "left out"]
    scores = np.array([2.0, 1.0, np.nan])
    verdicts = Verdicts(keys, scores, scores / 4, scores > 1.5, 1.5, (Skipped("left out", "it is empty"),))
    shown = verdicts._repr_html_()
    assert "3 samples, 1 anomalies above score 1.5, 1 skipped" in shown
    assert "&lt;img src=x" in shown and EVIL not in shown
    assert "\x1b" not in shown and "left out" not in shown
    json.dumps(shown).encode()  # what the notebook stores
