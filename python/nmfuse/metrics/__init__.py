"""What a fused image is worth: the metrics that the literature reports, each from its definition.

`evaluate` computes them; `METRICS` says what each means; `measure` takes images as they are read from files; `RANKING`
names the ten that methods are ranked by, `SECOND_JURY` eighteen that none of ours was trained for. `transfer` and
`contradiction` measure no image but a method: what it shows of a small signal that one source has.

How closely the metrics agree with an independent reference is in docs/metrics.md; where a widespread toolbox computes
something else under the same name, the docstring of ``METRICS[name].function`` says what.
"""

from nmfuse.metrics.evaluate import METRICS, Metric, evaluate
from nmfuse.metrics.measure import measure, white_of
from nmfuse.metrics.ranking import RANKING, SECOND_JURY, mean_and_deviation, mean_ranks, ranks
from nmfuse.metrics.transfer import Signal, Transfer, contradiction, transfer, transfer_grid

__all__ = [
    "METRICS",
    "RANKING",
    "SECOND_JURY",
    "Metric",
    "Signal",
    "Transfer",
    "contradiction",
    "evaluate",
    "mean_and_deviation",
    "mean_ranks",
    "measure",
    "ranks",
    "transfer",
    "transfer_grid",
    "white_of",
]
