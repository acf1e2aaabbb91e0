"""What a fitted detector holds: its model, its settings, its facts and its threshold."""

from __future__ import annotations

from typing import Any

from memae.autoencoder import Autoencoder
from memae.categories import FOLDERS
from memae.config import Config
from memae.deprecated import renamed_attribute
from memae.engine import Engine, EngineChoice, choose
from memae.errors import MemaeError
from memae.memory.shown import MemoryItems
from memae.memory.usage import ItemCounts
from memae.modality import Artifact, Modality
from memae.notebook import facts_html
from memae.predict import decoded_items
from memae.threshold import Threshold
from memae.threshold_moves import move_threshold, threshold_of, undo_move

__all__ = ["Fitted", "category_lines", "model_facts"]


def model_facts(artifact: Artifact) -> dict[str, str]:
    """What a model is, for people: its network, input, training and threshold. The path of its data is not in it."""
    facts, threshold = artifact.facts, artifact.threshold
    modality, samples = artifact.modality, artifact.facts["samples"]
    described = modality.describe(artifact)
    told = {
        "network": f"{artifact.config.network}, {facts['parameters']:,} parameters",
        "input": described.input,
        **described.facts,
        "trained on": f"{samples['training']:,} {modality.sample}s",
        "epochs": f"kept {facts['kept_epoch']}; {facts['seconds']:.1f} s; seed {facts['seed']}",
    }
    if threshold:
        how = "set by hand, for" if threshold.at is not None else "for"
        each = f" a {modality.sample}" * (modality.sample != "sample")
        of = f", from {threshold.group_count:,} groups" if threshold.groups is not None else ""
        told["threshold"] = (
            f"score {threshold.value:.6g} {how} a false-alarm rate of {threshold.false_alarm_rate:.3g}{each}{of}"
        )
        told |= {"note": threshold.caveat} if threshold.caveat else {}
        told |= {"categories": "\n".join(category_lines(artifact))} if threshold.categories else {}
    return told


def category_lines(artifact: Artifact) -> list[str]:
    """How the categories are told apart, and the threshold of each; empty where a model knows one kind of normal."""
    recogniser, threshold = artifact.recogniser, artifact.threshold
    if recogniser is None or threshold is None:
        return []
    said = {None: "taken by the model", FOLDERS: "said by the first folder below what is opened"}
    how = said.get(recogniser.column, f"said by the column {recogniser.column!r}")
    also = "" if recogniser.column is None else ", else taken by the model"
    found = threshold.of_categories
    return [
        f"{len(recogniser.names):,} kinds of normal, {how}{also}",
        *(one.line for one in found),
        *(one.caveat for one in found if one.caveat),
    ]


class Fitted:
    """The part of `memae.Detector` that tells what was fitted; before a fit everything raises a MemaeError."""

    engine: Engine
    _artifact: Artifact | None

    @property
    def artifact(self) -> Artifact:
        """All that `save` writes: config, preprocessing, model, threshold, use counts, facts and reference."""
        return self._fitted

    @property
    def engine_choice(self) -> EngineChoice:
        """Which engine is to score with this model, and why; short passes are left to torch."""
        return choose(self.model, self.engine)

    @property
    def model(self) -> Autoencoder:
        """The trained network."""
        return self._fitted.model

    @property
    def preprocess(self) -> Any:
        """The fitted preprocessing, which is also the schema of a table."""
        return self._fitted.preprocess

    @property
    def config(self) -> Config:
        """All settings that the model was trained with."""
        return self._fitted.config

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the training: sizes, seconds, seed, health of the memory, versions."""
        return self._fitted.facts

    @property
    def threshold(self) -> Threshold:
        """The decision.

        Raises:
            MemaeError: it was trained with threshold.calibration_share = 0 and has none.
        """
        return threshold_of(self._fitted)

    def move_threshold(self, *, false_alarm_rate: float | None = None, at: float | None = None) -> Threshold:
        """Moves the threshold to another rate or score, and logs it; see `memae.threshold_moves.move_threshold`."""
        self._artifact = move_threshold(self._fitted, false_alarm_rate=false_alarm_rate, at=at)
        return self.threshold

    def undo_threshold(self) -> Threshold:
        """Takes the last move of the threshold back; see `memae.threshold_moves.undo_move`."""
        self._artifact = undo_move(self._fitted)
        return self.threshold

    @property
    def map_threshold(self) -> float:
        """The value of an anomaly map (`Explanation.anomaly_map`) above which a place of an image is anomalous.

        It is the (1 - false-alarm rate) quantile of the maximum over held-out normal images. Maps are drawn by it.
        Raises a MemaeError for other models, and as `threshold`.
        """
        self.threshold  # noqa: B018  raises without one
        return self._fitted.modality.map_threshold(self._fitted)

    def map_level(self, score: float) -> float:
        """What the maximum of the anomaly map of a frame of video reaches where its score is `score`.

        See `memae.video.predict.region_level`.

        Raises:
            MemaeError: not a model of video, or as `threshold`.
        """
        return self._fitted.modality.map_level(self._fitted, score)

    @property
    def memory(self) -> MemoryItems | None:
        """The memory items: use, duplicates, each item decoded, and the training samples nearest to it.

        None for a plain autoencoder. All is computed each time; hold the result rather than asking again.
        """
        return decoded_items(self._fitted)

    def items(self) -> MemoryItems | None:
        """The same as `memory`."""
        return self.memory

    def push_to_hub(self, repo: str, *, private: bool = True) -> str:
        """Commits the model and a card to the Hugging Face Hub; see `memae.hub.push_to_hub`."""
        from memae.hub import push_to_hub

        return push_to_hub(self._fitted, repo, private=private)

    heat_threshold = renamed_attribute("map_threshold")
    place_level = renamed_attribute("map_level")

    @property
    def modality(self) -> Modality:
        """The kind of data that it is for."""
        return self._fitted.modality

    def _repr_html_(self) -> str:
        """What a notebook shows; never an error."""
        if self._artifact is None:
            return facts_html("memae.Detector", {"state": "not fitted; call fit(x)"})
        artifact, memory = self._artifact, self._artifact.model.memory
        return facts_html(
            "memae.Detector",
            {
                "kind of data": self.modality.plural,
                "threshold": "none; trained with threshold.calibration_share = 0",
                **model_facts(artifact),
                "memory": "none" if memory is None else ItemCounts.of(memory, artifact.uses).line,
            },
        )

    @property
    def _fitted(self) -> Artifact:
        if self._artifact is None:
            raise MemaeError("this detector is not fitted; call fit(x), or Detector.load(directory)")
        return self._artifact
