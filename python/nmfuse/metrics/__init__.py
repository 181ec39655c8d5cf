"""What a fused image is worth: the metrics that the literature reports, each from its definition.

`evaluate` computes them; `METRICS` says what each means; `measure` takes images as they are read from files; `RANKING`
names the ten that methods are ranked by. How closely they agree with an independent reference is in docs/metrics.md;
where a widespread toolbox computes something else under the same name, the docstring of ``METRICS[name].function`` says
what.
"""

from nmfuse.metrics.evaluate import METRICS, Metric, evaluate
from nmfuse.metrics.measure import measure, white_of
from nmfuse.metrics.ranking import RANKING, mean_and_deviation, mean_ranks, ranks

__all__ = [
    "METRICS",
    "RANKING",
    "Metric",
    "evaluate",
    "mean_and_deviation",
    "mean_ranks",
    "measure",
    "ranks",
    "white_of",
]
