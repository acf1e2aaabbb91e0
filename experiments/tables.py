"""The tables of the paper: their rows, what is computed for them, and the numbers that were reported.

A row without a method stands for a number that others reported. The reported numbers stand here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from experiments.data import DATA
from experiments.methods import METHODS

__all__ = ["TABLES", "Block", "Column", "Reported", "Row", "Table", "all_tables"]

Status = Literal["paper", "unconfirmed"]

_GPU = ("ped2",)  # the paper's video network


@dataclass(frozen=True)
class Reported:
    """A number of the paper, or one that was recalled and not confirmed."""

    value: float
    status: Status


@dataclass(frozen=True)
class Row:
    """A method in a table."""

    title: str
    method: str | None = None
    reported: Mapping[tuple[str, str], Reported] = field(default_factory=dict)
    """By data set and metric."""
    slow: bool = False
    """Takes hours: run only when it is named."""
    gpu: tuple[str, ...] = ()
    """The data sets on which it takes days without a GPU: not run where there is none."""


@dataclass(frozen=True)
class Column:
    """A figure of ours."""

    protocol: str
    metric: str
    title: str


@dataclass(frozen=True)
class Block:
    """A data set in a table. The first of its columns stands beside the reported numbers."""

    data: str
    title: str
    columns: tuple[Column, ...]
    also_reported: Mapping[str, str] = field(default_factory=dict)
    """Data sets that nobody here holds, and their titles: columns of reported numbers alone."""
    by_part: Column | None = None
    """What a table of the single parts shows."""

    @property
    def compared(self) -> Column:
        """The column that follows the paper's protocol."""
        return self.columns[0]


@dataclass(frozen=True)
class Table:
    """Blocks that share their rows."""

    title: str
    blocks: tuple[Block, ...]
    rows: tuple[Row, ...]
    seeds: int = 3
    """How many are computed unless the command line says otherwise."""

    def cells(self) -> Iterator[tuple[Block, Row, str]]:
        """Each data set with each row that it has a method for, in order: (block, row, method)."""
        for block in self.blocks:
            for row in self.rows:
                if row.method is not None and row.method in DATA[block.data].methods:
                    yield block, row, row.method


def _paper(metric: str = "auroc", **values: float) -> dict[tuple[str, str], Reported]:
    return {(data, metric): Reported(value, "paper") for data, value in values.items()}


def _unconfirmed(metric: str = "auroc", **values: float) -> dict[tuple[str, str], Reported]:
    return {(data, metric): Reported(value, "unconfirmed") for data, value in values.items()}


# Table 1: mean AUROC over ten classes

_IMAGES_AE = _paper(mnist=0.9619, cifar10=0.5706)
_IMAGES_NOT_SPARSE = _paper(mnist=0.9725, cifar10=0.6058)
_IMAGES_MEMAE = _paper(mnist=0.9751, cifar10=0.6088)
_IMAGES_DSEBM = _unconfirmed(mnist=0.9554, cifar10=0.5725)

_IMAGE_TRIVIAL = (
    Row("untrained network", "untrained"),
    Row("1-NN look-up, L2", "1-nn-l2"),
    Row("1-NN look-up, cosine", "1-nn-cosine"),
    Row("1-NN look-up, centred cosine", "1-nn-centred-cosine"),
    Row("1-NN look-up, cosine of smoothed images", "1-nn-smooth-cosine"),
    Row("PCA, 30 components", "pca-30"),
)

_IMAGE_COLUMNS = (
    Column("paper", "auroc", "AUROC, paper's mix"),
    Column("full", "auroc", "AUROC, full test"),
    Column("paper", "average_precision", "AP, paper's mix"),
    Column("full", "average_precision", "AP, full test"),
)
_BY_CLASS = Column("full", "auroc", "AUROC, full test")

TABLE1 = Table(
    "Images, one class normal",
    (
        Block("mnist", "MNIST", _IMAGE_COLUMNS, by_part=_BY_CLASS),
        Block("cifar10", "CIFAR-10", _IMAGE_COLUMNS, by_part=_BY_CLASS),
    ),
    (
        Row("OC-SVM", "one-class-svm", _unconfirmed(mnist=0.9499, cifar10=0.5619)),
        Row("KDE", "kde", _unconfirmed(mnist=0.8116, cifar10=0.5756)),
        Row("VAE", "vae", _unconfirmed(mnist=0.9632, cifar10=0.5725)),
        Row("PixelCNN", "pixelcnn", _unconfirmed(mnist=0.6141, cifar10=0.5450), slow=True),
        Row("DSEBM, energy", "dsebm-e", _IMAGES_DSEBM),
        Row("DSEBM, reconstruction", "dsebm-r", _IMAGES_DSEBM),
        Row("AE, our default", "autoencoder", _IMAGES_AE),
        Row("AE, preset `paper`", "autoencoder-paper", _IMAGES_AE),
        Row("MemAE-nonSpar, our default", "memae-nonspar", _IMAGES_NOT_SPARSE),
        Row("MemAE-nonSpar, preset `paper`", "memae-nonspar-paper", _IMAGES_NOT_SPARSE),
        Row("**MemAE**, our default", "memae", _IMAGES_MEMAE),
        Row("MemAE, preset `paper`", "memae-paper", _IMAGES_MEMAE),
        Row("MemAE, preset `released`", "memae-released", _IMAGES_MEMAE),
        *_IMAGE_TRIVIAL,
    ),
)

# Table 2: frame AUROC

_VIDEO_AE = _paper(ped2=0.917, avenue=0.810, shanghaitech=0.697)
_VIDEO_NOT_SPARSE = _paper(ped2=0.929, avenue=0.821, shanghaitech=0.688)
_VIDEO_MEMAE = _paper(ped2=0.941, avenue=0.833, shanghaitech=0.712)

_VIDEO_COLUMNS = (
    Column("paper", "auroc", "paper's protocol"),
    Column("paper raw", "auroc", "paper's, no min-max"),
    Column("paper raw", "auroc_macro", "paper's, macro"),
    Column("served", "auroc", "as served"),
    Column("served", "auroc_macro", "as served, macro"),
    Column("served min-max", "auroc", "as served, min-max"),
)

TABLE2 = Table(
    "Video, frame AUROC",
    (
        Block(
            "ped2",
            "UCSD Ped2",
            _VIDEO_COLUMNS,
            also_reported={"avenue": "Avenue", "shanghaitech": "ShanghaiTech"},
        ),
    ),
    (
        Row("MPPCA", None, _unconfirmed(ped2=0.693)),
        Row("MPPCA+SF", None, _unconfirmed(ped2=0.613)),
        Row("MDT", None, _unconfirmed(ped2=0.829)),
        Row("AMDN", None, _unconfirmed(ped2=0.908)),
        Row("AE-Conv2D", None, _unconfirmed(ped2=0.850, avenue=0.800, shanghaitech=0.609)),
        Row("AE-Conv3D", None, _unconfirmed(ped2=0.912, avenue=0.771)),
        Row("TSC", None, _paper(ped2=0.910, avenue=0.806, shanghaitech=0.679)),
        Row("StackRNN", None, _paper(ped2=0.922, avenue=0.817, shanghaitech=0.680)),
        Row("Unmasking (not by reconstruction)", None, _unconfirmed(ped2=0.822, avenue=0.806)),
        Row("MT-FRCN (not by reconstruction)", None, _unconfirmed(ped2=0.922)),
        Row(
            "Frame-Pred (not by reconstruction)", None, _unconfirmed(ped2=0.954, avenue=0.849, shanghaitech=0.728)
        ),
        Row("AE, our default", "autoencoder", _VIDEO_AE),
        Row("AE, preset `video-paper`", "autoencoder-paper", _VIDEO_AE, gpu=_GPU),
        Row("MemAE-nonSpar, our default", "memae-nonspar", _VIDEO_NOT_SPARSE),
        Row("MemAE-nonSpar, preset `video-paper`", "memae-nonspar-paper", _VIDEO_NOT_SPARSE, gpu=_GPU),
        Row("**MemAE**, our default", "memae", _VIDEO_MEMAE),
        Row("MemAE, preset `video-paper`", "memae-paper", _VIDEO_MEMAE, gpu=_GPU),
        Row("MemAE, preset `video-released`", "memae-released", _VIDEO_MEMAE, gpu=_GPU),
        Row("untrained network", "untrained"),
        Row("no network: our score of the frame differences", "no-network"),
        Row("mean background difference", "background-difference"),
        Row("strongest 10 x 10 block of frame difference", "block-difference"),
    ),
)

# Table 3: KDDCUP99, precision, recall and F1


def _kddcup(precision: float, recall: float, f1: float) -> dict[tuple[str, str], Reported]:
    values = {"precision": precision, "recall": recall, "f1": f1}
    return {("kddcup99", metric): Reported(value, "paper") for metric, value in values.items()}


_KDD_AE = _kddcup(0.9328, 0.9356, 0.9342)
_KDD_NOT_SPARSE = _paper("f1", kddcup99=0.9355)
_KDD_MEMAE = _kddcup(0.9627, 0.9655, 0.9641)

_KDD_VARIANTS = (
    Column("distinct", "f1", "F1, duplicates removed"),
    Column("distinct", "auroc", "AUROC, duplicates removed"),
    Column("training threshold", "f1", "F1, threshold from training"),
    Column("training threshold", "false_alarm_rate", "false alarms there"),
)

TABLE3 = Table(
    "Network intrusion",
    (
        Block(
            "kddcup99",
            "KDDCUP99, attacks are the normal data (the paper's way)",
            (
                Column("paper", "f1", "F1"),
                Column("paper", "precision", "precision"),
                Column("paper", "recall", "recall"),
                Column("paper", "auroc", "AUROC"),
                *_KDD_VARIANTS,
            ),
        ),
        Block(
            "kddcup99-attacks",
            "KDDCUP99, attacks are the anomaly",
            (Column("full", "f1", "F1"), Column("full", "auroc", "AUROC"), *_KDD_VARIANTS),
        ),
    ),
    (
        Row("OC-SVM", "one-class-svm", _kddcup(0.7457, 0.8523, 0.7954)),
        Row("DCN", "dcn", _kddcup(0.7696, 0.7829, 0.7762)),
        Row("DSEBM, energy", "dsebm-e", _kddcup(0.8619, 0.6446, 0.7399)),
        Row("DSEBM, reconstruction", "dsebm-r"),
        Row("DAGMM", "dagmm", _kddcup(0.9297, 0.9442, 0.9369)),
        Row("AE, our default", "autoencoder", _KDD_AE),
        Row("AE, preset `paper`", "autoencoder-paper", _KDD_AE),
        Row("MemAE-nonSpar, our default", "memae-nonspar", _KDD_NOT_SPARSE),
        Row("MemAE-nonSpar, preset `paper`", "memae-nonspar-paper", _KDD_NOT_SPARSE),
        Row("**MemAE**, our default", "memae", _KDD_MEMAE),
        Row("MemAE, preset `paper`", "memae-paper", _KDD_MEMAE),
        Row("MemAE, preset `released`", "memae-released", _KDD_MEMAE),
        Row("untrained network", "untrained"),
        Row("PCA, 3 components", "pca-3"),
        Row("PCA, 30 components", "pca-30"),
        Row("exact match", "exact-match"),
        Row("Isolation Forest", "isolation-forest"),
        Row("1-NN look-up, L2", "1-nn-l2"),
    ),
    seeds=20,
)

# Table 4: what each piece is worth

_WITHOUT_SHRINKAGE, _FULL = _paper(ped2=0.9324), _paper(ped2=0.9410)

TABLE4 = Table(
    "Ablation",
    (
        Block("ped2", "UCSD Ped2, frame AUROC", _VIDEO_COLUMNS),
        Block("mnist", "MNIST, not in the paper", _IMAGE_COLUMNS),
        Block(
            "kddcup99",
            "KDDCUP99, not in the paper",
            (Column("paper", "f1", "F1"), Column("paper", "auroc", "AUROC"), *_KDD_VARIANTS),
        ),
    ),
    (
        Row("AE", "autoencoder", _paper(ped2=0.9170)),
        Row("AE with L1 on the code", "sparse-code", _paper(ped2=0.9286)),
        Row("MemAE without shrinkage", "memae-nonspar", _WITHOUT_SHRINKAGE),
        Row("MemAE without entropy", "memae-no-entropy", _paper(ped2=0.9372)),
        Row("**MemAE**", "memae", _FULL),
        Row("AE, preset `paper`", "autoencoder-paper", _paper(ped2=0.9170), gpu=_GPU),
        Row("MemAE without shrinkage, preset `paper`", "memae-nonspar-paper", _WITHOUT_SHRINKAGE, gpu=_GPU),
        Row("MemAE, preset `paper`", "memae-paper", _FULL, gpu=_GPU),
    ),
)

# Not of the paper: the default for tables beside what is used there

TABLE5 = Table(
    "Small tables",
    (
        Block(
            "tables",
            "Ten small tables, half of the normal rows fitted",
            (Column("full", "auroc", "AUROC"), Column("full", "average_precision", "AP")),
            by_part=Column("full", "auroc", "AUROC"),
        ),
    ),
    (
        Row("**MemAE**, our default", "memae"),
        Row("MemAE-nonSpar, our default", "memae-nonspar"),
        Row("AE, our default", "autoencoder"),
        Row("MemAE, preset `table-paper`", "memae-paper", slow=True),
        Row("untrained network", "untrained"),
        Row("PyOD KNN, columns standardised", "pyod-knn"),
        Row("PyOD KNN, columns as they are", "pyod-knn-raw"),
        Row("PyOD IForest", "pyod-iforest"),
        Row("PyOD AutoEncoder", "pyod-autoencoder"),
        Row("distance to the nearest row", "1-nn-standard"),
        Row("distance to the fifth row", "5-nn-standard"),
        Row("Isolation Forest of scikit-learn", "isolation-forest"),
        Row("PCA, 3 components", "pca-3"),
    ),
)

# Not of the paper: the memories that followed MemAE's, on the same networks

_MEMORY_COLUMNS = (Column("full", "auroc", "AUROC"), Column("full", "average_precision", "AP"))

TABLE6 = Table(
    "Memories",
    (
        Block("tables", "Ten small tables", _MEMORY_COLUMNS, by_part=Column("full", "auroc", "AUROC")),
        Block("mnist", "MNIST", _MEMORY_COLUMNS, by_part=_BY_CLASS),
        Block("cifar10", "CIFAR-10", _MEMORY_COLUMNS, by_part=_BY_CLASS),
        Block(
            "kddcup99",
            "KDDCUP99",
            (Column("paper", "f1", "F1"), Column("paper", "auroc", "AUROC"), *_KDD_VARIANTS),
        ),
    ),
    (
        Row("none: plain autoencoder", "autoencoder"),
        Row("MNAD's items, as they were drawn", "mnad-frozen"),
        Row("MemAE, our default", "memae"),
        Row("MemAE, preset `paper`", "memae-paper"),
        Row("MemAE, preset `released`", "memae-released"),
        Row("MNAD, the paper's rule", "mnad"),
        Row("MNAD, the paper's rule with decay .9", "mnad-decay"),
        Row("MNAD, the released rule", "mnad-released"),
        Row("MEMTO's gate", "memto"),
        Row("untrained network", "untrained"),
        Row("1-NN look-up, L2", "1-nn-l2"),
        Row("PCA, 30 components", "pca-30"),
        Row("distance to the nearest row", "1-nn-standard"),
        Row("Isolation Forest", "isolation-forest"),
    ),
)

TABLES: dict[str, Table] = {
    "table1": TABLE1,
    "table2": TABLE2,
    "table3": TABLE3,
    "table4": TABLE4,
    "table5": TABLE5,
    "table6": TABLE6,
}


def all_tables() -> dict[str, Table]:
    """The paper's tables, and `others`: the data sets and methods of the registries that stand in none of them."""
    shown = {block.data for table in TABLES.values() for block in table.blocks}
    columns = (Column("full", "auroc", "AUROC"), Column("full", "average_precision", "AP"))
    blocks = tuple(Block(name, name, columns) for name in DATA if name not in shown)
    known = {row.method: row for table in TABLES.values() for row in table.rows}
    rows = {row.method: Row(row.title, row.method, slow=row.slow) for row in (*TABLE1.rows, *TABLE3.rows)}
    own = tuple(Row(name, name) for name in METHODS if name not in known)
    return {**TABLES, "others": Table("Not in the paper", blocks, (*rows.values(), *own))}
