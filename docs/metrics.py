"""Print docs/metrics.md from the registry: python docs/metrics.py > docs/metrics.md."""

from nmfuse.metrics import METRICS

NOTES = """# Metrics

`nmfuse.metrics.evaluate(fused, [a, b])` and `nmfuse evaluate FUSED A B`. Images are brought to the scale 0..255; n is the number of sources. This table is printed by `python docs/metrics.py` from `nmfuse.metrics.METRICS`.
"""
TRAPS = """
## Where popular implementations differ

The docstring of `METRICS[name].function` has the definition of each. In short:

- **Q_abf** is the ratio of sums with the constants of Xydeas & Petrovic. A widespread toolbox averages ratios of single pixels with fillers of 1e-5, so that a black background scores .987.
- **Q_TE** follows Nava's formula. `Q_TE_toolbox` is what a widespread toolbox prints under that name: it exchanges the marginals and uses Shannon entropies in the denominator. Figures in the literature are mostly on its scale.
- **Q_MI**, **MI**, **Q_TE** and **SSIM** reward plain averaging. No ranking should rest on them alone.
- **Q_CB** divides filtered images by filtered images. Where both are black that is rounding noise by rounding noise, so digits from the fourth on depend on the FFT library: on images with much black it agrees with the independent reference to 1e-3 only (1e-9 elsewhere).
- **VIF** is the pixel-domain form with noise variance 2, summed over the sources; **VIFF** is Han's, with noise variance 325.125.
"""


def main() -> None:
    print(NOTES)
    print("| name | what | range | better | source |\n|---|---|---|---|---|")
    for metric in METRICS.values():
        better = {True: "higher", False: "lower", None: "–"}[metric.higher_is_better]
        print(f"| {metric.name} | {metric.title} | {metric.range} | {better} | {metric.source} |")
    print(TRAPS, end="")


if __name__ == "__main__":
    main()
