"""How well a patch matches the truth: the field's metrics, exactly as they were published, and their statistics."""

from calvaria.metrics.catalog import METRICS, Metric
from calvaria.metrics.measures import measure
from calvaria.metrics.score import Comparison, Scores, score
from calvaria.metrics.statistics import PairedTest, compare_all, compare_pairs

__all__ = [
    "METRICS",
    "Comparison",
    "Metric",
    "PairedTest",
    "Scores",
    "compare_all",
    "compare_pairs",
    "measure",
    "score",
]
