"""How well a patch matches the truth: the field's metrics, exactly as they were published."""

from calvaria.metrics.score import Comparison, Scores, score

__all__ = ["Comparison", "Scores", "score"]
