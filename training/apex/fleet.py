"""Actors and shards as Ray processes, each replaced when it dies.

The driver submits all work and so holds a reference to all that is under way: what dies takes its
own work with it and nothing else.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import ray
from ray.exceptions import RayActorError

from training.apex.shard import Draw, Shard
from training.apex.strips import Strip
from training.apex.walker import Walker, WalkReport, Weights

MOST_DEATHS_IN_A_ROW = 5
"""A process that dies as often before it has done anything has a cause that no restart mends."""

_WAIT_SECONDS = 1.0

Role = Literal["actor", "shard"]


class Worker(NamedTuple):
    """Which process."""

    role: Role
    number: int


class Walked(NamedTuple):
    """An actor has walked."""

    worker: Worker
    strips: "ray.ObjectRef[list[Strip]]"
    """Not fetched here: it goes from the actor to a shard."""

    report: WalkReport


class Drawn(NamedTuple):
    """A shard has drawn; `None` if it holds too little yet."""

    worker: Worker
    draw: Draw | None


class Stored(NamedTuple):
    """A shard has taken strips in."""

    worker: Worker
    num_transitions: int
    """That it holds now."""


class Died(NamedTuple):
    """A process has died with its work; another stands in its place, empty."""

    worker: Worker


Event = Walked | Drawn | Stored | Died
_Handle = Any
"""Ray's actor handles have no useful type."""


class Fleet:
    """The processes of a run, and what they are doing."""

    def __init__(
        self,
        num_actors: int,
        num_shards: int,
        make_walker: Callable[[int, int], tuple[Any, ...]],
        make_shard: Callable[[int, int], dict[str, Any]],
        walker: type[Any] = Walker,
    ) -> None:
        """Start all processes; `ray.init` is the caller's.

        Args:
            num_actors: Processes that walk.
            num_shards: Processes that remember.
            make_walker: From index and life to what `walker` is made of.
            make_shard: From index and life to what `Shard` is made of.
            walker: What an actor runs; anything that walks as `Walker` does.
        """
        self._make_walker, self._make_shard = make_walker, make_shard
        self._remote_walker = ray.remote(num_cpus=0)(walker)
        self._remote_shard = ray.remote(num_cpus=0)(Shard)
        workers = [Worker("actor", number) for number in range(num_actors)]
        workers += [Worker("shard", number) for number in range(num_shards)]
        self._lives = dict.fromkeys(workers, 0)
        self._deaths_in_a_row = dict.fromkeys(workers, 0)
        self._handles: dict[Worker, _Handle] = {worker: self._start(worker) for worker in workers}
        self._under_way: dict[ray.ObjectRef[Any], Callable[[Any], Event]] = {}
        self._workers_of: dict[ray.ObjectRef[Any], tuple[Worker, int]] = {}
        self.num_deaths: dict[Role, int] = {"actor": 0, "shard": 0}

    @property
    def workers(self) -> list[Worker]:
        """All processes, actors first."""
        return list(self._handles)

    def walk(self, worker: Worker, weights: "ray.ObjectRef[tuple[int, Weights]]") -> None:
        """Let an actor walk with published weights; `Walked` follows."""
        strips, report = self._handles[worker].walk_with.options(num_returns=2).remote(weights)
        self._follow(report, worker, lambda result: Walked(worker, strips, result))

    def store(self, worker: Worker, strips: "ray.ObjectRef[list[Strip]]") -> None:
        """Let a shard take strips in; `Stored` follows."""
        stored = self._handles[worker].add.remote(strips)
        self._follow(stored, worker, lambda result: Stored(worker, result))

    def draw(self, worker: Worker, size: int, correction: float, fewest: int) -> None:
        """Let a shard draw a batch; `Drawn` follows."""
        drawn = self._handles[worker].draw.remote(size, correction, fewest)
        self._follow(drawn, worker, lambda result: Drawn(worker, result))

    def learned(self, worker: Worker, draw: Draw, errors: Any) -> None:
        """Tell a shard how wrong predictions were; nothing follows."""
        self._handles[worker].learned.remote(draw.slots, draw.generations, errors)

    def events(self, *, wait: bool) -> list[Event]:
        """What has happened since the last call.

        Args:
            wait: Whether to wait for something, up to a second, where nothing has.

        Raises:
            RuntimeError: A process keeps dying.
            ray.exceptions.RayTaskError: The code of one has failed.
        """
        references = list(self._under_way)
        if not references:
            return []
        finished, _ = ray.wait(
            references, num_returns=len(references), timeout=0, fetch_local=False
        )
        if wait and not finished:
            finished, _ = ray.wait(
                references, num_returns=1, timeout=_WAIT_SECONDS, fetch_local=False
            )
        return [event for reference in finished for event in self._finish(reference)]

    def handle(self, worker: Worker) -> _Handle:
        """Ray's handle of a process, for whoever watches or kills it."""
        return self._handles[worker]

    def close(self) -> None:
        """End all processes."""
        for handle in self._handles.values():
            ray.kill(handle)

    def _follow(
        self, reference: "ray.ObjectRef[Any]", worker: Worker, event: Callable[[Any], Event]
    ) -> None:
        self._under_way[reference] = event
        self._workers_of[reference] = worker, self._lives[worker]

    def _finish(self, reference: "ray.ObjectRef[Any]") -> list[Event]:
        event = self._under_way.pop(reference)
        worker, life = self._workers_of.pop(reference)
        try:
            result = ray.get(reference)
        except RayActorError as error:
            # All that was under way in a process fails; its death is told once.
            return [self._replace(worker, error)] if self._lives[worker] == life else []
        self._deaths_in_a_row[worker] = 0
        return [event(result)]

    def _replace(self, worker: Worker, error: RayActorError) -> Died:
        self._lives[worker] += 1
        self._deaths_in_a_row[worker] += 1
        self.num_deaths[worker.role] += 1
        if self._deaths_in_a_row[worker] >= MOST_DEATHS_IN_A_ROW:
            raise RuntimeError(
                f"{worker.role} {worker.number} has died {MOST_DEATHS_IN_A_ROW} times in a row"
            ) from error
        self._handles[worker] = self._start(worker)
        return Died(worker)

    def _start(self, worker: Worker) -> _Handle:
        life = self._lives[worker]
        if worker.role == "actor":
            return self._remote_walker.remote(*self._make_walker(worker.number, life))
        return self._remote_shard.remote(**self._make_shard(worker.number, life))
