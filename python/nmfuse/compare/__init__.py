"""Methods of fusion beside each other, on many pairs: images, metrics, ranks, times and a report."""

from nmfuse.compare.ablation import ablate
from nmfuse.compare.paper import paper_table
from nmfuse.compare.report import write_report
from nmfuse.compare.run import Comparison, compare

__all__ = [
    "Comparison",
    "ablate",
    "compare",
    "paper_table",
    "write_report",
]
