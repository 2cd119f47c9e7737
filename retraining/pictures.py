"""A cycle's pictures as SVG, drawn without a library: a report is read where none is installed."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from retraining.state import CycleState, run_name

_WIDTH, _HEIGHT, _MARGIN = 560, 260, 48
_COLOURS = ("#3b6ea5", "#c8553d", "#588157", "#8a5a9e", "#b08900", "#4a4a4a")


def draw_learning(state: CycleState) -> str | None:
    """Lower bounds of the candidates over updates, a line for each run; None without any."""
    points = [
        (alpha, updates, bound) for alpha, updates, bound in state.candidates if bound is not None
    ]
    if not points:
        return None
    across = _Axis([updates for _, updates, _ in points], _MARGIN, _WIDTH - _MARGIN)
    upward = _Axis([0.0, *(bound for _, _, bound in points)], _HEIGHT - _MARGIN, _MARGIN)
    parts = [_level(upward, 0.0, "as good as the current policy")]
    for number, alpha in enumerate(dict.fromkeys(alpha for alpha, _, _ in points)):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [
            (across.place(updates), upward.place(bound))
            for each, updates, bound in points
            if each == alpha
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(_text(_WIDTH - _MARGIN + 4, places[-1][1], run_name(alpha), colour))
    parts += [
        f'<circle cx="{across.place(updates):.1f}" cy="{upward.place(bound):.1f}" r="7" '
        'fill="none" stroke="#000"/>'
        for alpha, updates, bound in points
        if (alpha, updates) == state.chosen
    ]
    return _picture("Lower bound of the advantage, by updates and alpha", parts)


def draw_verdict(state: CycleState) -> str | None:
    """The estimates beside what the log returned; None without a verdict."""
    if state.verdict is None:
        return None
    found = state.verdict.evidence
    bars = [
        ("logged", found.logged_return),
        ("what acted, estimated", found.behaviour_estimate),
        ("current", found.current_estimate),
        ("candidate", found.candidate_estimate),
        ("candidate, at least", found.current_estimate + found.advantage_lower_bound),
    ]
    along = _Axis([0.0, *(value for _, value in bars)], 180, _WIDTH - _MARGIN)
    height = (_HEIGHT - 2 * _MARGIN) / len(bars)
    parts = []
    for number, (name, value) in enumerate(bars):
        top = _MARGIN + number * height
        begin, end = sorted((along.place(0.0), along.place(value)))
        parts.append(
            f'<rect x="{begin:.1f}" y="{top + 4:.1f}" width="{end - begin:.1f}" '
            f'height="{height - 8:.1f}" fill="{_COLOURS[number]}"/>'
        )
        parts.append(_text(8, top + height / 2 + 4, name, "#000"))
        parts.append(_text(end + 4, top + height / 2 + 4, f"{value:.3g}", "#000"))
    return _picture(f"Return, {found.method}: {state.verdict.decision}", parts)


class _Axis:
    """Maps values to places, the least to `begin` and the largest to `end`."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        self._least = min(values)
        self._span = (max(values) - self._least) or 1.0
        self._begin, self._end = begin, end

    def place(self, value: float) -> float:
        """Where a value is drawn."""
        return self._begin + (value - self._least) / self._span * (self._end - self._begin)


def _level(upward: _Axis, value: float, name: str) -> str:
    y = upward.place(value)
    line = f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#999"/>'
    return line + _text(_MARGIN, y - 4, name, "#666")


def _text(x: float, y: float, content: str, colour: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{escape(content)}</text>'


def _picture(title: str, parts: Sequence[str]) -> str:
    body = "".join([_text(8, 20, title, "#000"), *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="11">{body}</svg>\n'
    )
