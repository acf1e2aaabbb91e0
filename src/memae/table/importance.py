"""Which columns the errors of rows lie in, over as many rows as there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memae.engine.scoring import Scorer
from memae.modality import Artifact
from memae.progress import Progress, stage
from memae.table.schema import TablePreprocess, check_none_bad
from memae.table.scoring import RowErrors, scorer_of, shares_of

__all__ = ["column_shares"]

ROWS = 10_000  # that are encoded at a time


def column_shares(
    artifact: Artifact, source: Any, *, skip_bad: bool = False, progress: Progress | None = None
) -> Mapping[str, float]:
    """See `memae.modality.Modality.column_shares`; bad rows count nowhere."""
    action, preprocess = "finding the columns of the errors", artifact.preprocess
    scorer = scorer_of(artifact, action, progress)
    total = torch.zeros(len(preprocess.columns), dtype=torch.float64)
    with stage(progress, action, "samples") as done:
        for rows in source.chunks(ROWS):
            encoded = preprocess.encode_rows(rows)
            if not skip_bad:
                check_none_bad(rows, encoded.bad)
            good = np.setdiff1d(np.arange(len(rows)), list(encoded.bad))
            if len(good):
                total += _errors(preprocess, scorer, encoded.x[torch.from_numpy(good)])
            done(len(rows))
    return shares_of(preprocess, total)


def _errors(preprocess: TablePreprocess, scorer: Scorer[RowErrors], x: Tensor) -> Tensor:
    """(columns,) float64: the errors of encoded rows, summed."""
    return sum(
        (batch.by_column(preprocess) for batch in scorer.batches(x)),
        torch.zeros(len(preprocess.columns), dtype=torch.float64),
    )
