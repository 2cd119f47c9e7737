"""Gradients over several processes: each learns from a share, and all take the same step.

    torchrun --standalone --nproc-per-node 2 -m training.distributed --preset … --out DIR

trains as `dqn train` does, with as many times its environments and its batch as there are
processes. Each walks environments of its own and draws from a replay of its own; gradients are
averaged before they are limited, so that the networks stay the same in all of them. gloo carries
gradients between CPUs, NCCL between GPUs.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import torch
from pydantic import ValidationError
from rich.console import Console
from torch import Tensor, distributed, nn

from training.checkpoint import BEST, write_checkpoint
from training.config import TrainingConfig
from training.memory import keep_freed_memory
from training.replay import Batch
from training.run import TrainingRun, has_crossed

_EXIT_MISUSED = 2


class Place(NamedTuple):
    """Which of the processes this is."""

    rank: int
    world_size: int


@contextmanager
def process_group(device: str) -> Iterator[Place]:
    """Be one of torchrun's processes for as long as the context lasts; alone without torchrun."""
    here = Place(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if here.world_size == 1:
        yield here
        return
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield here
        # Who leaves first would take down what another still talks to.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def share_of(batch: Batch, here: Place) -> Batch:
    """This process's rows of a batch that all of them hold.

    Raises:
        ValueError: The batch cannot be divided evenly: the mean of uneven shares' means would not
            be the mean of the whole.
    """
    size = len(batch.actions)
    if size % here.world_size:
        raise ValueError(f"a batch of {size} cannot be divided among {here.world_size} processes")
    share = size // here.world_size
    return Batch(*(column[here.rank * share : (here.rank + 1) * share] for column in batch))


def average_gradients(network: nn.Module, here: Place) -> None:
    """Make every backward pass end with the mean of all processes' gradients.

    Once the last parameter has its gradient, all of them travel as one vector: many small
    messages would cost more than the arithmetic.
    """
    if here.world_size == 1:
        return
    parameters = list(network.parameters())
    num_ready = 0

    def count(_: Tensor) -> None:
        nonlocal num_ready
        num_ready += 1
        if num_ready == len(parameters):
            num_ready = 0
            _average([parameter.grad for parameter in parameters if parameter.grad is not None])

    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(count)  # type: ignore[no-untyped-call]


def begin_alike(network: nn.Module, here: Place) -> None:
    """Give every process the weights of the first."""
    if here.world_size > 1:
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                distributed.broadcast(tensor, src=0)


def train_distributed(config: TrainingConfig, here: Place, console: Console) -> float:
    """Train to the end; the best mean return of the evaluations, which the first process makes.

    Raises:
        ValueError: The configuration lets processes differ.
        DivergenceError: Learning has gone wrong.
    """
    if config.normalise_observations or config.compile_updates == "always":
        raise ValueError(
            "each process would fit a normalisation of its own, and gradients cannot be averaged "
            "within a compiled update: set --no-normalise-observations and "
            "--compile-updates never"
        )
    own = config.model_copy(
        update={"seed": config.seed * here.world_size + here.rank, "compile_updates": "never"}
    )
    best_return = float("-inf")
    with closing(TrainingRun(own)) as run:
        begin_alike(run.learner.online_network, here)
        run.learner.sync_target()
        average_gradients(run.learner.online_network, here)
        while not run.has_finished:
            steps_before = run.steps
            run.advance()
            is_due = has_crossed(config.evaluation_every_steps, steps_before, run.steps)
            if here.rank == 0 and (is_due or run.has_finished):
                result = run.evaluate(config.evaluation_episodes)
                console.print(
                    f"step {run.steps * here.world_size:,}: mean return {result.mean_return:.1f}"
                )
                if result.mean_return >= best_return:
                    best_return = result.mean_return
                    write_checkpoint(
                        config.out / BEST,
                        run.metadata(result.mean_return),
                        run.learner.online_network,
                    )
    return best_return


def main(arguments: Sequence[str]) -> int:
    """Train as the flags of `dqn train` say. Returns the exit status."""
    keep_freed_memory()
    console = Console(markup=False, highlight=False, soft_wrap=True)
    try:
        config = TrainingConfig.from_arguments(arguments)
        with process_group(config.device) as here:
            train_distributed(config, here, console)
    except (ValidationError, ValueError) as error:
        Console(stderr=True, markup=False, highlight=False).print(f"error: {error}", style="red")
        return _EXIT_MISUSED
    return 0


def _average(gradients: list[Tensor]) -> None:
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(joined)
    joined /= distributed.get_world_size()
    pieces = torch.split(joined, [gradient.numel() for gradient in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
