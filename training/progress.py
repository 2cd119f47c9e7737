"""What a person sees of a run: a live bar on a terminal, plain lines elsewhere."""

import time
from collections import deque
from collections.abc import Callable

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


class TrainingProgress:
    """Shows return, epsilon, loss, mean max-Q, steps per second and the time left."""

    def __init__(
        self,
        total_steps: int,
        console: Console,
        first_step: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._total_steps = total_steps
        self._recent: deque[EpisodeRecord] = deque(maxlen=_RECENT_EPISODES)
        self._clock = clock
        self._first_step, self._start_seconds = first_step, clock()
        self._line_seconds = self._start_seconds
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
                "training", total=total_steps, completed=first_step, figures=""
            )
            self._bar.start()

    def show(self, steps: int, records: list[EpisodeRecord]) -> None:
        """Bring the display up to date with the run."""
        self._recent.extend(records)
        seconds = self._clock()
        rate = (steps - self._first_step) / max(seconds - self._start_seconds, 1e-3)
        if self._bar is not None:
            self._bar.update(self._task, completed=steps, figures=self._figures(rate))
        elif seconds - self._line_seconds >= _SECONDS_BETWEEN_LINES:
            self._line_seconds = seconds
            self.say(
                f"step {steps:,} of {self._total_steps:,}: {self._figures(rate)}, "
                f"{(self._total_steps - steps) / rate:.0f} s left at most"
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
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    def _figures(self, steps_per_second: float) -> str:
        if not self._recent:
            return f"{steps_per_second:,.0f} steps/s"
        latest = self._recent[-1]
        loss = "-" if latest.loss is None else f"{latest.loss:.3g}"
        mean_return = np.mean([record.episode_return for record in self._recent])
        mean_max_q = np.mean([record.mean_max_q for record in self._recent])
        return (
            f"return {mean_return:.1f}, epsilon {latest.epsilon:.2f}, loss {loss}, "
            f"mean max-Q {mean_max_q:.1f}, {steps_per_second:,.0f} steps/s"
        )
