"""Committed cells to means, intervals and tables; never trains."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t

from experiments.runner import RESULTS

__all__ = ["Summary", "Tree", "as_json", "summarise"]


@dataclass(frozen=True)
class Summary:
    """A metric over seeds: mean and 95 % interval by Student's t."""

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: list[float]) -> Summary:
        """The summary of one value a seed; a single seed has no interval."""
        mean, n = float(np.mean(values)), len(values)
        if n == 1:
            return cls(mean, math.nan, math.nan, 1)
        half = float(t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
        return cls(mean, mean - half, mean + half, n)


Tree = dict[str, dict[str, dict[str, dict[str, Summary]]]]


def summarise(root: Path = RESULTS / "first_light") -> Tree:
    """{data set: {method: {protocol: {metric: Summary}}}} of all committed cells; "seconds" is a metric too."""
    values: dict[tuple[str, str, str, str], list[float]] = {}
    for path in sorted(root.glob("*/*/seed-*.json")):
        data, method = path.parts[-3:-1]
        result = json.loads(path.read_text(encoding="utf-8"))
        for protocol, metrics in result["metrics"].items():
            for metric, value in {**metrics, "seconds": result["seconds"]}.items():
                values.setdefault((data, method, protocol, metric), []).append(value)
    tree: Tree = {}
    for (data, method, protocol, metric), found in values.items():
        tree.setdefault(data, {}).setdefault(method, {}).setdefault(protocol, {})[metric] = Summary.of(found)
    return tree


def as_json(tree: Tree) -> str:
    """The tree as JSON, under the name of its table; a missing interval is null."""
    plain = {
        data: {
            method: {
                protocol: {
                    metric: {
                        k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(s).items()
                    }
                    for metric, s in metrics.items()
                }
                for protocol, metrics in protocols.items()
            }
            for method, protocols in methods.items()
        }
        for data, methods in tree.items()
    }
    return json.dumps({"first_light": plain})
