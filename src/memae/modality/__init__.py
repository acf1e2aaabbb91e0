"""The only seam to a kind of data: what each kind offers, and the registry of the kinds there are.

A kind of data (images, tables, video) is one `Modality` object in a package of its own. Everything above asks that
object and never asks what it is. `register` adds a kind; `memae` itself registers its three by the names of their
packages, which are imported when they are first needed.
"""

from memae.modality.graph import Layout, Port, ScoringGraph, above
from memae.modality.interface import Modality
from memae.modality.registry import (
    build,
    modalities,
    modality_named,
    modality_of,
    prepare,
    preset_config,
    register,
)
from memae.modality.settings import ChosenSettings
from memae.modality.sources import collect, open_source
from memae.modality.tensors import SampleTensor
from memae.modality.values import (
    Artifact,
    Description,
    FitOptions,
    Judged,
    NormalScores,
    Prepared,
    Preprocess,
    Reference,
    Request,
    Summary,
    WriteRows,
)

__all__ = [
    "Artifact",
    "ChosenSettings",
    "Description",
    "FitOptions",
    "Judged",
    "Layout",
    "Modality",
    "NormalScores",
    "Port",
    "Prepared",
    "Preprocess",
    "Reference",
    "Request",
    "SampleTensor",
    "ScoringGraph",
    "Summary",
    "WriteRows",
    "above",
    "build",
    "collect",
    "modalities",
    "modality_named",
    "modality_of",
    "open_source",
    "prepare",
    "preset_config",
    "register",
]
