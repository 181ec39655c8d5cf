"""Methods of fusion beside each other, on many pairs: images, metrics, ranks, times and a report."""

from nmfuse.compare.ablation import ablate
from nmfuse.compare.pairs import Pair, find_pairs
from nmfuse.compare.tables import RANKING, mean_ranks

__all__ = ["RANKING", "Pair", "ablate", "find_pairs", "mean_ranks"]
