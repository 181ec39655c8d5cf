"""Table III of the paper beside what its columns are here."""

from __future__ import annotations

import numpy as np

from nmfuse.compare.run import Comparison
from nmfuse.io.tables import markdown
from nmfuse.metrics import mean_and_deviation

# What the paper prints and its text repeats, in per cent; the cells of Table III that are not here were not at hand.
PRINTED: dict[str, dict[str, float]] = {
    "mst-sr": {"Q_MI": 97},
    "nsct-pc": {},
    "asr": {"Q_MI": 68},
    "cnn-liu": {"Q_TE_toolbox": 62, "Q_abf": 62, "Q_MI": 87},
    "paper-letter": {"Q_TE_toolbox": 98, "Q_abf": 45, "Q_MI": 92},
}
METHODS = ("mst-sr", "nsct-pc", "asr", "cnn-liu", "paper-letter", "paper", "learned")
_COLUMNS = {
    "Q_TE_toolbox": "Tsallis entropy",
    "Q_abf": "gradient-based quality",
    "IR": "information ratio",
    "Q_MI": "mutual information",
}
COLUMNS = (*_COLUMNS, "Q_TE", "VIF", "VIFF")
NOTES = """\
What differs, and why:

- The paper prints per cent of quantities that are no shares: mutual information and Tsallis entropy have other bounds.
  Here they stand as they are; the printed figures are divided by 100.
- "Mutual information" is the normalised one (Q_MI, Hossny 2008, 0 to 2): its figures are of that size; bits are not.
- "Tsallis entropy" is Q_TE of a widely used toolbox, whose marginals are exchanged and whose denominator adds what it
  should subtract (Q_TE_toolbox); Q_TE is the corrected one. The 0.98 printed for the proposed method is out of the
  scale of all others (0.62 to 0.71), and of this reproduction.
- "Information ratio" is not defined in the paper (printed: 0.28 to 0.41). IR here is
  (I(A;F) + I(B;F)) / (H(A) + H(B)); VIF and VIFF, which it may have been, stand beside it.
- The paper's text says that mutual information stands out; its own table has mst-sr above the proposed method. Q_MI
  and Q_TE reward an image that is nearly one of the sources or their average: no ranking should rest on them alone.
- The time's unit is not printed; it says only that the proposed method takes 3.4 times as long as nsct-pc.
- The pairs differ: the paper does not say which it used, and its data are single-modality slices.
- "paper-letter" is the paper's pipeline with the contrast pyramid; "paper" has the Laplacian pyramid instead, and
  "learned" is the default of nmfuse.
- cnn-liu has our own focus weights unless the authors' were given; mst-sr and asr have dictionaries of our own."""


def paper_table(comparison: Comparison) -> str:
    """Return Table III as Markdown: ours (printed), means over all pairs, and seconds a pair."""
    rows = []
    for method in (name for name in METHODS if name in comparison.methods):
        row = [method]
        for metric in COLUMNS:
            cell = f"{mean_and_deviation(comparison.values, method, metric)[0]:.3f}"
            printed = PRINTED.get(method, {}).get(metric)
            row.append(cell if printed is None else f"{cell} ({printed / 100:.2f})")
        seconds = [s for (_, name), (s, _) in comparison.seconds.items() if name == method]
        rows.append([*row, f"{np.mean(seconds):.3f}" if seconds else "-"])
    headers = [f"{_COLUMNS[metric]}: {metric}" if metric in _COLUMNS else metric for metric in COLUMNS]
    return f"{markdown(['method', *headers, 's'], rows)}\n\nIn brackets: what the paper prints.\n\n{NOTES}"
