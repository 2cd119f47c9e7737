"""Environments that are stepped together: one after another, in processes, or by the emulator."""

import math
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from contract.declaration import ObservationSpec
from training.ale_environments import AleEnvironments
from training.environments import (
    Environments,
    EpisodeState,
    Observations,
    SeededEnvironment,
    describe_environment,
)
from training.replay import Transitions

Stepping = Literal["sync", "async", "ale"]
_CLOSE_SECONDS = 5.0
_ALIGNMENT = 16


class EnvironmentGroup(Protocol):
    """What an actor needs of environments, however they are stepped."""

    observations: Observations
    """What is seen now, [N, ...]."""

    goes_on: bool
    """Whether `restore` goes on with the episodes that were under way; else new ones begin."""

    def __len__(self) -> int:
        """How many there are, N."""

    def step(self, actions: npt.NDArray[np.int64]) -> Transitions:
        """Act in every environment, [N]."""

    def states(self) -> list[EpisodeState]:
        """Where each environment stands."""

    def restore(self, states: list[EpisodeState]) -> None:
        """Bring each environment to where `states` found it."""

    def close(self) -> None:
        """Free what the environments hold."""


def make_environments(
    name: str, num_environments: int, seed: int, stepping: Stepping, num_processes: int = 2
) -> EnvironmentGroup:
    """Make a group.

    Args:
        name: As `environment_name` describes.
        num_environments: How many.
        seed: All their randomness comes from it.
        stepping: `sync` steps one after another, and is the fastest where a step takes less than
            a message; `async` gives the same transitions from several processes; `ale` leaves
            Atari to the emulator's own threads.
        num_processes: Of `async`, at most one an environment.
    """
    match stepping:
        case "sync":
            return Environments(name, num_environments, seed)
        case "async":
            return AsyncEnvironments(name, num_environments, seed, num_processes)
        case "ale":
            return AleEnvironments(name, num_environments, seed)


class _Columns(NamedTuple):
    """What all processes write and their parent reads, one row an environment."""

    observations: npt.NDArray[Any]
    next_observations: npt.NDArray[Any]
    rewards: npt.NDArray[np.float32]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]


class AsyncEnvironments:
    """The transitions of `Environments`, bit for bit, from processes that share their memory."""

    goes_on = True

    def __init__(self, name: str, num_environments: int, seed: int, num_processes: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        spec = describe_environment(name).observation
        layout = _layout(spec, num_environments)
        memory = context.RawArray("B", sum(_num_bytes(*column) for column in layout))
        self._columns = _columns(memory, spec, num_environments)
        self._indices = np.array_split(
            np.arange(num_environments), min(num_processes, num_environments)
        )
        self._pipes: list[Connection] = []
        self._processes = []
        for indices in self._indices:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(theirs, name, seed, indices.tolist(), memory, spec, num_environments),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._receive()
        self.observations: Observations = self._columns.observations.copy()

    def __len__(self) -> int:
        return len(self._columns.rewards)

    def step(self, actions: npt.NDArray[np.int64]) -> Transitions:
        """Act in every environment, [N], all processes at once.

        Raises:
            RuntimeError: A process has died.
        """
        observations = self.observations
        self._ask("step", [actions[indices].tolist() for indices in self._indices])
        self.observations = self._columns.observations.copy()
        return Transitions(
            observations=observations,
            actions=actions,
            rewards=self._columns.rewards.copy(),
            next_observations=self._columns.next_observations.copy(),
            terminated=self._columns.terminated.copy(),
            truncated=self._columns.truncated.copy(),
        )

    def states(self) -> list[EpisodeState]:
        """Where each environment stands."""
        answers = self._ask("states", [None] * len(self._pipes))
        return [state for states in answers for state in states]

    def restore(self, states: list[EpisodeState]) -> None:
        """Bring each environment to where `states` found it."""
        self._ask("restore", [[states[index] for index in indices] for indices in self._indices])
        self.observations = self._columns.observations.copy()

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(_CLOSE_SECONDS)
            process.kill()
            process.join()

    def _ask(self, command: str, arguments: Sequence[Any]) -> list[Any]:
        for pipe, argument in zip(self._pipes, arguments, strict=True):
            try:
                pipe.send((command, argument))
            except OSError as error:
                raise RuntimeError("a process of environments has died") from error
        return self._receive()

    def _receive(self) -> list[Any]:
        try:
            return [pipe.recv() for pipe in self._pipes]
        except (EOFError, OSError) as error:
            raise RuntimeError("a process of environments has died") from error


def _serve(
    pipe: Connection,
    name: str,
    seed: int,
    indices: list[int],
    memory: Any,
    spec: ObservationSpec,
    num_environments: int,
) -> None:
    """Step environments until the pipe closes."""
    columns = _columns(memory, spec, num_environments)
    environments = [SeededEnvironment(name, seed, index) for index in indices]

    def show() -> None:
        for index, environment in zip(indices, environments, strict=True):
            columns.observations[index] = environment.observation

    def step(actions: list[int]) -> None:
        for index, environment, action in zip(indices, environments, actions, strict=True):
            (
                columns.next_observations[index],
                columns.rewards[index],
                columns.terminated[index],
                columns.truncated[index],
            ) = environment.step(action)
        show()

    def restore(states: list[EpisodeState]) -> None:
        for environment, state in zip(environments, states, strict=True):
            environment.restore(state)
        show()

    commands: dict[str, Callable[[Any], Any]] = {
        "step": step,
        "states": lambda _: [environment.state() for environment in environments],
        "restore": restore,
    }
    show()
    pipe.send(None)
    try:
        while True:
            command, argument = pipe.recv()
            pipe.send(commands[command](argument))
    except (EOFError, KeyboardInterrupt):
        return


def _layout(spec: ObservationSpec, num_environments: int) -> list[tuple[tuple[int, ...], Any]]:
    """Shape and dtype of each of `_Columns`."""
    rows = (num_environments,)
    frames = ((*rows, *spec.shape), spec.numpy_dtype)
    return [frames, frames, (rows, np.float32), (rows, np.bool_), (rows, np.bool_)]


def _num_bytes(shape: tuple[int, ...], dtype: Any) -> int:
    """Of a column, so that the next one begins where any number may."""
    size = math.prod(shape) * int(np.dtype(dtype).itemsize)
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _columns(memory: Any, spec: ObservationSpec, num_environments: int) -> _Columns:
    columns, offset = [], 0
    for shape, dtype in _layout(spec, num_environments):
        column = np.frombuffer(memory, dtype, math.prod(shape), offset=offset)
        columns.append(column.reshape(shape))
        offset += _num_bytes(shape, dtype)
    return _Columns(*columns)
