"""Pictures of runs, as PNG files: for reports, and for whoever looks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.curves import Calibration, Curve
from training.episode_log import EpisodeRecord, EvaluationRecord

# Of Okabe and Ito (2008): told apart by every kind of colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#f0e442")
_INK, _GRID = "#333333", "#dddddd"
_SIZE = (8.0, 4.5)
_DOTS_PER_INCH = 110
_MOST_POINTS = 4_000


def draw_curves(curves: Mapping[str, Curve], title: str, path: Path) -> None:
    """Learning curves with their bands, one a preset, each named at its end."""
    figure, axes = _blank(title, "environment steps", "return (interquartile mean of seeds)")
    for colour, (name, curve) in zip(_cycled(len(curves)), curves.items(), strict=True):
        axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(
            curve.steps, curve.values, "o-", color=colour, linewidth=1.8, markersize=3, label=name
        )
    if len(curves) > 1:
        axes.legend(frameon=False, loc="best")
    axes.set_xlim(left=0)
    _save(figure, path)


def draw_comparison(
    scores: Mapping[str, tuple[float, float, float]], title: str, path: Path
) -> None:
    """Presets beside one another: a point for the value and a line for its interval.

    Args:
        scores: Value, lower and upper end, by name.
        title: Above the picture.
        path: Of the PNG file.
    """
    figure, axes = _blank(title, "return (interquartile mean, 95 % interval)", "")
    names = list(scores)
    figure.set_size_inches(_SIZE[0], 1.4 + 0.6 * len(names))
    for row, (colour, name) in enumerate(zip(_cycled(len(names)), names, strict=True)):
        value, low, high = scores[name]
        axes.plot(
            [low, high], [row, row], color=colour, linewidth=6, alpha=0.3, solid_capstyle="butt"
        )
        axes.plot([value], [row], "o", color=colour, markersize=7)
        axes.annotate(
            f"{value:,.4g}", (value, row), (0, 9), textcoords="offset points", ha="center"
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    _save(figure, path)


def draw_calibration(calibration: Calibration, title: str, path: Path) -> None:
    """Q-values against Monte-Carlo returns; on the diagonal they tell the truth."""
    figure, axes = _blank(title, "discounted return that came", "Q-value of the action taken")
    count = len(calibration.returns)
    shown = np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(np.int64)
    returns, q_values = calibration.returns[shown], calibration.q_values[shown]
    axes.plot(returns, q_values, ".", color=_COLOURS[0], alpha=0.25, markersize=4, linewidth=0)
    low, high = min(returns.min(), q_values.min()), max(returns.max(), q_values.max())
    axes.plot([low, high], [low, high], color=_INK, linewidth=1, linestyle="--")
    middle = (low + high) / 2
    axes.annotate(
        "truth", (middle, middle), (-8, 4), textcoords="offset points", ha="right", color=_INK
    )
    axes.annotate(
        f"mean(Q - G) / sd(G) = {calibration.bias:+.2f}",
        (0.02, 0.95),
        xycoords="axes fraction",
        va="top",
    )
    _save(figure, path)


def draw_run(
    episodes: Sequence[EpisodeRecord], evaluations: Sequence[EvaluationRecord], path: Path
) -> None:
    """One run: its returns while exploring and in evaluations, above what its network promised."""
    figure = Figure(figsize=(_SIZE[0], 1.6 * _SIZE[1]), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    returns, promises = figure.subplots(2, 1, sharex=True)
    _dress(returns, "", "return")
    _dress(promises, "environment steps", "at an episode's start")
    if episodes:
        shown = episodes[:: max(1, len(episodes) // _MOST_POINTS)]
        returns.plot(
            [record.steps for record in shown],
            [record.episode_return for record in shown],
            ".",
            color=_COLOURS[4],
            markersize=3,
            alpha=0.5,
            label="episodes while exploring",
        )
    steps = [record.steps for record in evaluations]
    returns.plot(
        steps,
        [record.mean_return for record in evaluations],
        "o-",
        color=_COLOURS[1],
        markersize=3,
        label="evaluations, mean",
    )
    promised = [record.mean_start_q for record in evaluations]
    realised = [record.mean_start_return for record in evaluations]
    promises.plot(steps, promised, "o-", color=_COLOURS[0], markersize=3, label="max Q")
    promises.plot(
        steps, realised, "o-", color=_COLOURS[1], markersize=3, label="discounted return that came"
    )
    for axes in (returns, promises):
        axes.legend(frameon=False, loc="best")
    _save(figure, path)


def draw_importances(shares: Mapping[str, float], path: Path) -> None:
    """How much each setting of a sweep explains of what sets the best trials apart."""
    figure, axes = _blank(
        "What sets the best trials of a sweep apart", "share that the setting explains", ""
    )
    names = sorted(shares, key=lambda name: shares[name])
    figure.set_size_inches(_SIZE[0], 1.4 + 0.5 * len(names))
    axes.barh(names, [shares[name] for name in names], color=_COLOURS[0], height=0.6)
    for row, name in enumerate(names):
        axes.annotate(
            f"{shares[name]:.0%}",
            (shares[name], row),
            (4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_xlim(0, 1.08)
    axes.grid(visible=False, axis="y")
    _save(figure, path)


def _blank(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, dpi=_DOTS_PER_INCH, layout="constrained")
    # Without pyplot nothing is global, and no window system is asked for.
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, loc="left", color=_INK)
    _dress(axes, x_label, y_label)
    return figure, axes


def _dress(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel(y_label, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _cycled(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
