"""The learning stage in several of torchrun's processes, which share every batch.

    dqn retrain --policy pole --every 6h --processes 4

runs a cycle as one process does and learns in four: each reads the log, takes its rows of each
batch, and adds its gradient to the others'. The first one chooses and writes the candidate.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from pydantic import TypeAdapter

from contract.files import replace_file
from retraining.config import RetrainConfig
from retraining.learning import Found, learn_candidate
from retraining.sources import Sources
from retraining.state import CycleError, CycleState, read_states
from training.distributed import process_group

CONFIG_FILE: Final = "config.json"
FOUND_FILE: Final = "found.json"
REFUSED_FILE: Final = "refused.txt"
"""Why learning cannot be done: torchrun tells its parent only that a process failed."""
_FOUND: Final = TypeAdapter(Found)
_TOLD_CHARACTERS = 2_000


def learn_together(config: RetrainConfig, state: CycleState) -> Found:
    """What a cycle's learning came to, by as many processes as are configured.

    Raises:
        ValueError: As `learn_candidate`.
        CycleError: One of them failed otherwise; the end of what it said is the message.
    """
    folder = config.folder / state.cycle_id
    (folder / REFUSED_FILE).unlink(missing_ok=True)
    replace_file(folder / CONFIG_FILE, config.model_dump_json().encode())
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
    command = (sys.executable, *torchrun, str(config.processes), "-m", "retraining.distributed")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    if (folder / REFUSED_FILE).exists():
        raise ValueError((folder / REFUSED_FILE).read_text("utf-8"))
    if done.returncode != 0:
        raise CycleError(f"learning failed: {done.stderr[-_TOLD_CHARACTERS:]}")
    return _FOUND.validate_json((folder / FOUND_FILE).read_bytes())


def main(arguments: Sequence[str]) -> int:
    """Be one of the processes, for the cycle in a folder; the exit status."""
    torch.set_num_threads(1)
    folder = Path(arguments[0])
    config = RetrainConfig.model_validate_json((folder / CONFIG_FILE).read_bytes())
    (state,) = [each for each in read_states(config.folder) if each.cycle_id == folder.name]
    sources = Sources(config)
    reading = sources.read_again(state)
    if reading is None:
        raise CycleError(f"{folder.name}: the dataset is another one by now")
    parent, out = sources.parent(state), sources.candidate_folder(state)
    with process_group("cpu") as here:
        try:
            found = learn_candidate(config, parent, reading, state.seed, out, here)
        except ValueError as error:
            replace_file(folder / REFUSED_FILE, str(error).encode())
            return 1
    if here.rank == 0:
        replace_file(folder / FOUND_FILE, _FOUND.dump_json(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
