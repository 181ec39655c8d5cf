"""What a fused image is worth."""

from nmfuse.metrics.evaluate import METRICS, Metric, evaluate

__all__ = ["METRICS", "Metric", "evaluate"]
