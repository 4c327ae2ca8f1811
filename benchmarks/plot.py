"""The benchmark's ratios as a picture: a line for each model, a dot for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fluxmod.bench import Row
from fluxmod.bench._table import TITLES

COLOURS = {
    "torch channels_last": "#8c8c8c",
    "torch.compile": "#d6604d",
    "plain nnx": "#92c5de",
    "fluxmod": "#1b4f8f",
}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write an SVG: speed relative to torch eager, on a logarithmic axis, quartiles as bars."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "fluxmod", "font.size": 8})
    from matplotlib import pyplot

    labels = list(dict.fromkeys(f"{row.model} ({row.batch})" for row in rows))
    size = (10, 1 + 0.2 * len(labels))
    figure, axes = pyplot.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    for axis, (job, title) in zip(axes, TITLES.items(), strict=True):
        for variant, colour in COLOURS.items():
            shown = [row for row in rows if row.job == job and variant in row.speedup]
            ratios = [row.speedup[variant] for row in shown]
            ends = [row.spread[variant] for row in shown]
            axis.errorbar(
                ratios,
                [labels.index(f"{row.model} ({row.batch})") for row in shown],
                xerr=[
                    [max(r - low, 0) for r, (low, _) in zip(ratios, ends, strict=True)],
                    [max(high - r, 0) for r, (_, high) in zip(ratios, ends, strict=True)],
                ],
                fmt="o",
                color=colour,
                markersize=6 if variant == "fluxmod" else 4,
                label=variant,
            )
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_title(title)
        axis.set_xlabel("times as fast as torch eager")
        axis.grid(axis="x", which="both", linewidth=0.3)
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
