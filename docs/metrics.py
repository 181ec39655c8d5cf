"""Print docs/metrics.md from the registry: python docs/metrics.py > docs/metrics.md."""

from nmfuse.metrics import METRICS

NOTES = """# Metrics

`nmfuse.metrics.evaluate(fused, [a, b])` and `nmfuse evaluate FUSED A B`. Images are brought to the scale 0..255: by the range of uint8 or uint16, by one `data_range=(low, high)`, or each by a `window` of its own. n is the number of sources. This table is printed by `python docs/metrics.py` from `nmfuse.metrics.METRICS`.
"""
TRAPS = """
## Where popular implementations differ

The docstring of `METRICS[name].function` has the definition of each. In short:

- **Q_abf** is the ratio of sums with the constants of Xydeas & Petrovic. A widespread toolbox averages ratios of single pixels with fillers of 1e-5, so that a black background scores .98.
- **Q_TE** follows Nava's formula. `Q_TE_toolbox` is what a widespread toolbox prints under that name: it stretches the images to 0..255, exchanges the marginals, and in the denominator has Shannon entropies and adds I(A; B) where it is to be subtracted. Figures in the literature are mostly on its scale.
- **Q_MI**, **MI**, **Q_TE** and **SSIM** reward plain averaging. No ranking should rest on them alone.
- **Q_CB** divides filtered images by filtered images. Where both are black that is rounding noise by rounding noise, so digits from the fourth on depend on the FFT library: on images with much black it agrees with the independent reference to 3e-3 only (1e-8 elsewhere).
- **VIF** is the pixel-domain form with noise variance 2, summed over the sources; **VIFF** is Han's, with noise variance 325.125.
"""
ANY_SIDE = 2  # pixels: what every metric needs


def table() -> str:
    """Return the table of all metrics."""
    lines = ["| name | what | range | better | source |", "|---|---|---|---|---|"]
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
        f"\n{pairs} are defined for exactly two sources. Some need a least height and width in pixels: {sides}. "
        "`nmfuse evaluate` leaves out what is not defined and says so; floats whose white is not 1 need "
        "`--range LOW,HIGH`.\n"
    )


def listed(names: list[str]) -> str:
    """Return names as a sentence has them."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def text() -> str:
    """Return the whole page."""
    return f"{NOTES}\n{table()}{limits()}{TRAPS}"


if __name__ == "__main__":
    print(text(), end="")
