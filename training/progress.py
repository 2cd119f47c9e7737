"""What a person sees of a run: a live bar on a terminal, plain lines elsewhere."""

import time
from collections import deque
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from training.episode_log import EpisodeRecord, EvaluationRecord

_RECENT_EPISODES = 20
_SECONDS_BETWEEN_LINES = 5.0


class _Rate(NamedTuple):
    steps: int
    seconds: float


class TrainingProgress:
    """Shows return, epsilon, loss, mean max-Q, steps per second and the time left."""

    def __init__(self, total_steps: int, console: Console, steps: int = 0) -> None:
        self._console = console
        self._total_steps = total_steps
        self._recent: deque[EpisodeRecord] = deque(maxlen=_RECENT_EPISODES)
        self._start = _Rate(steps, time.monotonic())
        self._last_line_seconds = self._start.seconds
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(
                "training", total=total_steps, completed=steps, figures=""
            )
            self._bar.start()

    def show(self, steps: int, records: list[EpisodeRecord]) -> None:
        """Bring the display up to date with the run."""
        self._recent.extend(records)
        if self._bar is not None:
            self._bar.update(self._task, completed=steps, figures=self._figures(steps))
        elif time.monotonic() - self._last_line_seconds >= _SECONDS_BETWEEN_LINES:
            self._last_line_seconds = time.monotonic()
            self.say(
                f"step {steps:,} of {self._total_steps:,}: {self._figures(steps)}, "
                f"{self._seconds_left(steps):.0f} s left at most"
            )

    def show_evaluation(self, record: EvaluationRecord) -> None:
        """Say what an evaluation found."""
        self.say(
            f"step {record.steps:,}: evaluation over {record.episodes} episodes, "
            f"mean return {record.mean_return:.1f}, max Q at the start {record.mean_start_q:.1f} "
            f"for a discounted return of {record.mean_start_return:.1f}"
        )

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line above the bar."""
        self._console.print(text, style=style, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    def _figures(self, steps: int) -> str:
        if not self._recent:
            return f"{self._steps_per_second(steps):,.0f} steps/s"
        latest = self._recent[-1]
        loss = "-" if latest.loss is None else f"{latest.loss:.3g}"
        mean_return = np.mean([record.episode_return for record in self._recent])
        mean_max_q = np.mean([record.mean_max_q for record in self._recent])
        return (
            f"return {mean_return:.1f}, epsilon {latest.epsilon:.2f}, loss {loss}, "
            f"mean max-Q {mean_max_q:.1f}, {self._steps_per_second(steps):,.0f} steps/s"
        )

    def _steps_per_second(self, steps: int) -> float:
        seconds = max(time.monotonic() - self._start.seconds, 1e-3)
        return (steps - self._start.steps) / seconds

    def _seconds_left(self, steps: int) -> float:
        return (self._total_steps - steps) / max(self._steps_per_second(steps), 1e-3)
