"""The closed loop as a picture: requests/s and p99 by connections, ours and the rivals'."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import RESULTS_FOLDER
from benchmarks.serving.closed_loop import Measured
from benchmarks.serving.contenders import BARE, OURS
from benchmarks.serving.rivals.table import RIVALS

_TITLES = {OURS: "ours", BARE: "bare protocol, constant answer"} | {
    rival.name: rival.title for rival in RIVALS
}
_MODELS = {
    "mlp": "mlp 8-128-128 dueling, one observation a JSON request",
    "cnn": "Nature CNN, 84 x 84 x 4 uint8, each server's fastest body",
}


def draw(measured: Sequence[Measured]) -> Path:
    """Write `results/serving.png`."""
    # Here because only this function needs it, and its import takes a second.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    for column, (model, title) in zip(axes.T, _MODELS.items(), strict=True):
        rates, tails = column
        for name, label in _TITLES.items():
            lines = [
                each
                for each in measured
                if each.contender == name
                and (each.workload.model, each.workload.rows, each.workload.workers)
                == (model, 1, 1)
            ]
            if not lines or (model == "cnn" and name == BARE):
                continue
            lines.sort(key=lambda each: each.workload.connections)
            connections = [each.workload.connections for each in lines]
            style = {
                "label": label,
                "marker": "o",
                "linewidth": 3 if name == OURS else 1.5,
                "linestyle": "--" if name == BARE else "-",
                "color": _colour(name),
            }
            rates.plot(connections, [each.load.requests_per_second for each in lines], **style)
            tails.plot(connections, [each.load.p99_seconds * 1000 for each in lines], **style)
        rates.set(title=title, ylabel="requests/s (more is better)")
        tails.set(xlabel="connections", ylabel="p99 in ms (less is better)")
        for axis in (rates, tails):
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            ticks = sorted(
                {each.workload.connections for each in measured if each.workload.model == model}
            )
            axis.set_xticks(ticks, labels=[str(tick) for tick in ticks])
            axis.grid(visible=True, which="both", alpha=0.25)
        tails.axhline(10, color="black", linewidth=0.8, linestyle=":")
    axes[0, 0].legend(fontsize=8)
    path = RESULTS_FOLDER / "serving.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _colour(name: str) -> str:
    if name == OURS:
        return "black"
    if name == BARE:
        return "grey"
    # Fixed by the table, so that a rival keeps its colour where another is missing.
    return f"C{[rival.name for rival in RIVALS].index(name)}"
