"""Methods of fusion beside each other, on many pairs: images, metrics, ranks, times and a report."""

from nmfuse.compare.ablation import ablate
from nmfuse.compare.pairs import Pair, find_pairs
from nmfuse.compare.paper import paper_table
from nmfuse.compare.report import write_report
from nmfuse.compare.run import Comparison, compare
from nmfuse.compare.tables import RANKING, mean_ranks

__all__ = [
    "RANKING",
    "Comparison",
    "Pair",
    "ablate",
    "compare",
    "find_pairs",
    "mean_ranks",
    "paper_table",
    "write_report",
]
