"""How well a patch matches the truth: the field's metrics, exactly as they were published, and their statistics."""

from calvaria.metrics.catalog import METRICS, Metric
from calvaria.metrics.correlation import Correlation, correlate
from calvaria.metrics.maps import ErrorMap, ErrorMaps, error_maps
from calvaria.metrics.measures import measure, surface_dice_at
from calvaria.metrics.ranking import Standing, rank_methods
from calvaria.metrics.score import Comparison, Scores, score
from calvaria.metrics.statistics import PairedTest, compare_all, compare_pairs
from calvaria.metrics.summary import Summary, summarise, worst_cases

__all__ = [
    "METRICS",
    "Comparison",
    "Correlation",
    "ErrorMap",
    "ErrorMaps",
    "Metric",
    "PairedTest",
    "Scores",
    "Standing",
    "Summary",
    "compare_all",
    "compare_pairs",
    "correlate",
    "error_maps",
    "measure",
    "rank_methods",
    "score",
    "summarise",
    "surface_dice_at",
    "worst_cases",
]
