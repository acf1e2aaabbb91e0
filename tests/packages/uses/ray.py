"""Scores a table on a cluster of this machine's cores."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memae import Detector
from memae.ray import score_on_ray

rows = pa.table({name: np.random.default_rng(place).normal(size=400) for place, name in enumerate("abc")})
with TemporaryDirectory() as folder:
    Detector(settings={"train": {"epochs": 3}}).fit(rows).save(Path(folder, "model"))
    pq.write_table(rows, Path(folder, "rows.parquet"))
    told = score_on_ray(Path(folder, "model"), Path(folder, "rows.parquet"), Path(folder, "scores"))
    assert told.facts["samples"] == pq.read_table(Path(folder, "scores")).num_rows == 400
