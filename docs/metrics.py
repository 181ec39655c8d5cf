"""Print docs/metrics.md from the registry: python docs/metrics.py > docs/metrics.md."""

from nmfuse.metrics import METRICS

NOTES = """# Metrics

`nmfuse.metrics.evaluate(fused, [a, b])` in Python and `nmfuse evaluate FUSED A B` in the shell compute the metrics of this page. Images are scaled to 0..255: by the range of uint8 or uint16, by one `data_range=(low, high)`, or each by a `window` of its own. In the table, n is the number of sources. The page is printed by `python docs/metrics.py` from `nmfuse.metrics.METRICS`.
"""
TRAPS = """
## Where popular implementations differ

The docstring of `METRICS[name].function` defines each metric. Some of them are often implemented differently:

- **Q_abf** is a ratio of sums, with the constants of Xydeas & Petrovic. A widespread toolbox instead averages the ratios of single pixels, with 1e-5 added to avoid a division by zero, so that a black background scores .98.
- **Q_TE** follows Nava's formula. `Q_TE_toolbox` is what a widespread toolbox computes under that name: it stretches the images to 0..255, exchanges the marginals, uses Shannon entropies in the denominator, and adds I(A; B) where it should be subtracted. Most figures in the literature are on its scale.
- **Q_MI**, **MI**, **Q_TE** and **SSIM** reward plain averaging. No ranking should rest on them alone.
- **Q_CB** divides filtered images by filtered images. Where both are black, this divides rounding noise by rounding noise, so the digits from the fourth on depend on the FFT library: on images with much black the result agrees with the independent reference only to 3e-3 (elsewhere to 1e-8).
- **VIF** is the pixel-domain form with noise variance 2, summed over the sources; **VIFF** is Han's, with noise variance 325.125.
"""
ANY_SIDE = 2  # pixels: what every metric needs


def table() -> str:
    """Return the table of all metrics."""
    lines = ["| name | what it measures | range | better | source |", "|---|---|---|---|---|"]
    for metric in METRICS.values():
        better = {True: "higher", False: "lower", None: "–"}[metric.higher_is_better]
        lines.append(f"| {metric.name} | {metric.title} | {metric.range} | {better} | {metric.source} |")
    return "\n".join(lines) + "\n"


def limits() -> str:
    """Return what some metrics ask of the sources and of their size."""
    pairs = listed([metric.name for metric in METRICS.values() if metric.pairs_only])
    by_side: dict[int, list[str]] = {}
    for metric in METRICS.values():
        if metric.least_side > ANY_SIDE:
            by_side.setdefault(metric.least_side, []).append(metric.name)
    sides = "; ".join(f"{listed(names)} {side}" for side, names in sorted(by_side.items(), reverse=True))
    return (
        f"\n{pairs} are defined for exactly two sources. Some metrics need a minimum height and width in "
        f"pixels: {sides}. `nmfuse evaluate` leaves out metrics that are not defined and says so; floats whose white is "
        "not 1 need `--range LOW,HIGH`.\n"
    )


def listed(names: list[str]) -> str:
    """Return names as a sentence has them."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def text() -> str:
    """Return the whole page."""
    return f"{NOTES}\n{table()}{limits()}{TRAPS}"


if __name__ == "__main__":
    print(text(), end="")
