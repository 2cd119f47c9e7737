import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from tests.training.builders import training_config
from tests.training.sharing import learn
from training.checkpoint import read_checkpoint
from training.distributed import Place, share_of, train_distributed
from training.replay import Batch

ROOT = Path(__file__).parent.parent.parent
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run_two(*command: str) -> None:
    """Run a module in two processes that talk over the loopback alone."""
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*TORCHRUN, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def learned(folder: Path, rank: int = 0) -> Tensor:
    return load_file(folder / f"{rank}.safetensors")["online"]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_the_whole_batch(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    learn(alone)
    run_two("tests.training.sharing", str(together))
    assert torch.equal(learned(together, 0), learned(together, 1))
    # Sums are added in another order.
    torch.testing.assert_close(learned(together), learned(alone), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_processes_train_from_a_preset_and_leave_a_checkpoint(tmp_path: Path) -> None:
    flags = ("--total-steps", "2000", "--no-normalise-observations", "--evaluation-episodes", "2")
    run_two("training.distributed", "--preset", "cartpole", *flags, "--out", str(tmp_path))
    metadata = read_checkpoint(tmp_path / "best").metadata
    assert metadata.steps == 2016  # in rounds of 32
    assert metadata.updates > 100


def numbered(size: int) -> Batch:
    return Batch(*(torch.arange(size) + 100 * place for place in range(len(Batch._fields))))


def test_shares_are_consecutive_whole_and_disjoint() -> None:
    shares = [share_of(numbered(6), Place(rank, 3)) for rank in range(3)]
    assert [share.observations.tolist() for share in shares] == [[0, 1], [2, 3], [4, 5]]
    assert shares[1].actions.tolist() == [102, 103]


def test_a_batch_that_cannot_be_divided_evenly_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 7 cannot be divided among 2 processes"):
        share_of(numbered(7), Place(0, 2))


def test_processes_that_would_normalise_differently_are_refused(tmp_path: Path) -> None:
    config = training_config(tmp_path, normalise_observations=True)
    with pytest.raises(ValueError, match="a normalisation of its own"):
        train_distributed(config, Place(0, 2), Console(quiet=True))


def test_one_process_alone_trains_too(tmp_path: Path) -> None:
    config = training_config(tmp_path, normalise_observations=False)
    assert train_distributed(config, Place(0, 1), Console(quiet=True)) > 0
    assert read_checkpoint(tmp_path / "best").metadata.steps in (400, 800)
