"""`python -m training`, which is also `dqn train`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from training.checkpoint import CheckpointError
from training.config import TrainingConfig
from training.divergence import DivergenceError
from training.memory import keep_freed_memory
from training.monitors import watched
from training.online import TrainingSummary, resume, stop_on_signals, train

_EXIT_MISUSED = 2
_EXIT_DIVERGED = 1
_EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Train as the flags say; see `TrainingConfig`. Returns the exit status."""
    console = Console(markup=False, highlight=False)
    errors = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    keep_freed_memory()
    try:
        summary = _train_or_resume(arguments, console)
    except ValidationError as error:
        errors.print(_one_line_each(error), style="red")
        return _EXIT_MISUSED
    except (ValueError, FileExistsError, CheckpointError) as error:
        errors.print(f"error: {error}", style="red")
        return _EXIT_MISUSED
    except DivergenceError as error:
        errors.print(f"stopped: {error}", style="red")
        return _EXIT_DIVERGED

    out = summary.best.parent
    if summary.stopped_by == "interrupted":
        console.print(f"stopped at step {summary.steps:,}; go on with --resume {out}")
        return _EXIT_INTERRUPTED
    why = "reached its target" if summary.stopped_by == "target" else "did all its steps"
    console.print(
        f"the run {why} at step {summary.steps:,}; best mean return {summary.best_return:.1f}, "
        f"in {summary.best}",
        soft_wrap=True,
    )
    return 0


def _train_or_resume(arguments: Sequence[str], console: Console) -> TrainingSummary:
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--resume", type=Path)
    found, others = finder.parse_known_args(arguments)
    if found.resume is not None and others:
        raise ValueError(f"--resume takes no other flags, found {' '.join(others)}")
    with stop_on_signals() as should_stop:
        if found.resume is not None:
            return resume(found.resume, console, watched(should_stop, found.resume))
        config = TrainingConfig.from_arguments(arguments)
        return train(config, console, watched(should_stop, config.out))


def _one_line_each(error: ValidationError) -> str:
    return "\n".join(
        f"error: --{'-'.join(map(str, problem['loc'])).replace('_', '-') or 'flags'}: "
        f"{problem['msg']}, found {problem['input']!r}"
        for problem in error.errors()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
