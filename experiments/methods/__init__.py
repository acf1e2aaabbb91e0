"""The methods of the evidence, one registry; a method is a function of normal samples and a seed."""

from experiments.methods.dagmm import dagmm
from experiments.methods.dcn import dcn
from experiments.methods.detectors import DETECTORS, TABLE_DETECTORS
from experiments.methods.dsebm import dsebm
from experiments.methods.isolation_forest import isolation_forest
from experiments.methods.kde import kde
from experiments.methods.look_up import exact_match, nearest_neighbour
from experiments.methods.method import Fitted, Method
from experiments.methods.one_class_svm import one_class_svm
from experiments.methods.pca import pca
from experiments.methods.pixelcnn import pixelcnn
from experiments.methods.pyod import pyod
from experiments.methods.sparse_code import sparse_code
from experiments.methods.vae import vae

__all__ = ["METHODS", "TABLE_METHODS", "Fitted", "Method"]

METHODS: dict[str, Method] = {
    **DETECTORS,
    "1-nn-l2": nearest_neighbour("l2"),
    "1-nn-cosine": nearest_neighbour("cosine"),
    "1-nn-centred-cosine": nearest_neighbour("centred"),
    "1-nn-smooth-cosine": nearest_neighbour("smooth"),
    "pca-3": pca(3),
    "pca-30": pca(30),
    "exact-match": exact_match,
    "isolation-forest": isolation_forest,
    "one-class-svm": one_class_svm(),
    "kde": kde(),
    "vae": vae(),
    "pixelcnn": pixelcnn(),
    "dsebm-e": dsebm("energy"),
    "dsebm-r": dsebm("reconstruction"),
    "dcn": dcn(),
    "dagmm": dagmm(),
    "sparse-code": sparse_code(),
}

# of the ten small tables, with what users of PyOD would take
TABLE_METHODS: dict[str, Method] = {
    **TABLE_DETECTORS,
    "1-nn-standard": nearest_neighbour("standard"),
    "5-nn-standard": nearest_neighbour("standard", 5),
    "isolation-forest": isolation_forest,
    "pca-3": pca(3),
    "pyod-knn": pyod("knn"),
    "pyod-knn-raw": pyod("knn", scaled=False),
    "pyod-iforest": pyod("iforest"),
    "pyod-autoencoder": pyod("autoencoder"),
}
