"""This project's DQN until it returns as much as asked; as the rivals' programs, one process a run.

Prints one JSON object: the CPU seconds of learning, evaluations not counted, and what was reached.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence

from training.config import TrainingConfig
from training.run import TrainingRun, has_crossed

EVERY_STEPS = 1_000
EPISODES = 20
"""Of each evaluation, with the preset's share of random actions, if any: no easier than greedy."""


def main(arguments: Sequence[str]) -> None:
    """Train as the flags say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--steps", type=int, required=True, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", type=float, required=True)
    options = parser.parse_args(arguments)
    cpu_seconds, reached = 0.0, None
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--preset", options.preset, "--seed", str(options.seed), "--out", folder]
        run = TrainingRun(TrainingConfig.from_arguments([*flags, "--no-tensorboard"]))
        while run.steps < options.steps and (reached is None or reached < options.until):
            before, began = run.steps, time.process_time()
            run.advance()
            cpu_seconds += time.process_time() - began
            if has_crossed(EVERY_STEPS, before, run.steps):
                reached = run.evaluate(EPISODES).mean_return
        run.close()
    print(json.dumps({"cpu_seconds": cpu_seconds, "steps": run.steps, "reached": reached}))


if __name__ == "__main__":
    main(sys.argv[1:])
