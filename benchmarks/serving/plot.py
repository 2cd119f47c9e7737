"""The closed loop as a picture: requests/s and p99 by connections, ours and the rivals'."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS_FOLDER
from benchmarks.serving.closed_loop import Measured
from benchmarks.serving.contenders import OURS, PROBE
from benchmarks.serving.rivals.table import RIVALS

_MODELS = {
    "mlp": "mlp 8-128-128 dueling, one observation a JSON request",
    "cnn": "Nature CNN, 84 x 84 x 4 uint8, each server's fastest body",
}
_DEADLINE_MS = 10
_STYLES: dict[str, dict[str, Any]] = {
    OURS: {"label": "ours, everything on", "color": "black", "linewidth": 3},
    PROBE: {"label": "bare probe: the model and no service", "color": "grey", "linestyle": "--"},
    # By place in the table, so that a rival keeps its colour where another is missing.
    **{
        rival.name: {"label": rival.title, "color": f"C{place}"}
        for place, rival in enumerate(RIVALS)
    },
}


def draw(measured: Sequence[Measured]) -> Path:
    """Write `results/serving.png`."""
    # Here because only this function needs it, and its import takes a second.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(12, 10), layout="constrained", sharex="col")
    for (rates, tails), (model, title) in zip(axes.T, _MODELS.items(), strict=True):
        # One observation a request and one worker: what the horizontal axis alone varies.
        lines = [
            each
            for each in measured
            if (each.workload.model, each.workload.rows, each.workload.workers) == (model, 1, 1)
        ]
        _draw_column(rates, tails, lines)
        rates.set(title=title, ylabel="requests/s (more is better)")
        tails.set(xlabel="connections", ylabel="p99 in ms (less is better)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    path = RESULTS_FOLDER / "serving.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _draw_column(rates: Any, tails: Any, lines: Sequence[Measured]) -> None:
    """One model: requests/s above, p99 below."""
    for name, style in _STYLES.items():
        own = [each for each in lines if each.contender == name]
        own.sort(key=lambda each: each.workload.connections)
        if not own:
            continue
        connections = [each.workload.connections for each in own]
        rates.plot(
            connections, [each.load.requests_per_second for each in own], marker="o", **style
        )
        tails.plot(connections, [each.load.p99_seconds * 1000 for each in own], marker="o", **style)
    ticks = sorted({each.workload.connections for each in lines})
    for axis in (rates, tails):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.set_xticks(ticks, labels=[str(tick) for tick in ticks])
        axis.grid(visible=True, alpha=0.3)
    tails.axhline(_DEADLINE_MS, color="black", linewidth=1, linestyle=":")
    tails.annotate(
        "deadline",
        (0, _DEADLINE_MS),
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        ha="left",
    )
