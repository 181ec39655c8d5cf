"""What a fused image is worth: the metrics that the literature reports, each from its definition.

`evaluate` computes them; `METRICS` says what each means. How closely they agree with an independent reference is in
docs/metrics.md; where a widespread toolbox computes something else under the same name, the docstring of
``METRICS[name].function`` says what.
"""

from nmfuse.metrics.evaluate import METRICS, Metric, evaluate

__all__ = ["METRICS", "Metric", "evaluate"]
