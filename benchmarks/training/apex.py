"""What Ape-X's data plane carries: from actors through the driver into a shard of the replay.

Actors here have walked once, real games at random, and send the same strips again and again, so
that neither the emulator nor a network is measured. Beside them in the same run, plain pushing:
actors that send one transition a call, its frames stacked, to one process that stores it.
"""

import time
from collections import deque
from contextlib import closing
from typing import Any

import numpy as np
import ray

from benchmarks.report import Figure
from contract.declaration import ObservationSpec
from training.apex.__main__ import ray_on_this_machine
from training.apex.fleet import Event, Fleet, Stored, Walked, Worker
from training.apex.strips import Strip, make_strips
from training.apex.walker import WalkReport, Weights
from training.environments import Environments, describe_environment
from training.replay import Transitions

GAME = "ALE/Pong-v5"
MEASURED_PLAIN = 5_551
"""Transitions/s of plain pushing on the same two cores, quiet."""

GOAL = 3 * MEASURED_PLAIN
_STEPS, _GAMES = 64, 4
_MOST_FRAMES = 400
_STRIPS = 40
_WALKS_UNDER_WAY = 2
_CALLS_UNDER_WAY = 64


class Feeder:
    """Sends what it has walked once, as a `Walker` would what it walks."""

    def __init__(self, seed: int) -> None:
        transitions = random_walk(seed, _STEPS, _GAMES)
        num_rows = len(transitions.actions)
        self._strips = make_strips(
            transitions,
            np.ones(num_rows, np.int64),
            np.ones(num_rows, np.float32),
            depth=4,
            most_frames=_MOST_FRAMES,
        )
        self._report = WalkReport(num_rows, [], transitions.rewards, np.zeros(0, np.float32))

    def walk_with(self, published: tuple[int, Weights]) -> tuple[list[Strip], WalkReport]:
        """Send it all."""
        return self._strips, self._report


class PlainReplay:
    """Stores stacked transitions, one a call."""

    def __init__(self, capacity: int, observation: ObservationSpec) -> None:
        shape = (capacity, *observation.shape)
        self._observations = np.empty(shape, observation.numpy_dtype)
        self._next_observations = np.empty(shape, observation.numpy_dtype)
        self._num_added = 0

    def add(self, observation: Any, action: int, reward: float, following: Any) -> None:
        """Store one."""
        slot = self._num_added % len(self._observations)
        self._observations[slot], self._next_observations[slot] = observation, following
        self._num_added += 1

    def num_added(self) -> int:
        """How many have come."""
        return self._num_added


class PlainFeeder:
    """Pushes stacked transitions, as fast as the replay takes them."""

    def __init__(self, seed: int, replay: Any) -> None:
        self._transitions, self._replay = random_walk(seed, _STEPS, _GAMES), replay

    def push(self, seconds: float) -> None:
        """Push for so long."""
        columns = self._transitions
        under_way: deque[Any] = deque()
        end, row = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            under_way.append(
                self._replay.add.remote(
                    columns.observations[row],
                    int(columns.actions[row]),
                    float(columns.rewards[row]),
                    columns.next_observations[row],
                )
            )
            row = (row + 1) % len(columns.actions)
            if len(under_way) >= _CALLS_UNDER_WAY:
                ray.get(under_way.popleft())
        ray.get(list(under_way))


def measure(*, quick: bool) -> list[Figure]:
    """The figures: plain pushing and strips, each with 4 and 8 actors."""
    seconds = 2.0 if quick else 10.0
    figures = []
    with ray_on_this_machine():
        for num_actors in (4,) if quick else (4, 8):
            plain = plain_rate(num_actors, seconds)
            ours = strip_rate(num_actors, num_shards=1, seconds=seconds)
            name = f"Ape-X, {num_actors} actors and 1 shard"
            figures += [
                Figure(f"{name}: plain pushing", plain, "transitions/s"),
                Figure(
                    f"{name}: frames once, in batches",
                    ours,
                    "transitions/s",
                    goal=f"at least {GOAL:,}, three times {MEASURED_PLAIN:,}",
                    rival=f"plain pushing in the same run: {plain:,.0f}",
                    ratio=ours / plain,
                    met=ours >= GOAL,
                ),
            ]
    strips = Feeder(0).walk_with((0, {}))[0]
    num_rows = sum(len(strip.actions) for strip in strips)
    return [
        *figures,
        Figure(
            "Ape-X: bytes sent a transition, next frames included",
            sum(strip.num_bytes for strip in strips) / num_rows,
            "bytes",
            rival="stacked: 56,448",
        ),
    ]


def strip_rate(num_actors: int, num_shards: int, seconds: float) -> float:
    """Transitions/s that shards have taken in, by the driver's own loop."""
    shard = {
        "observation": describe_environment(GAME).observation,
        "num_strips": _STRIPS,
        "rows_per_strip": _STEPS * _GAMES,
        "frames_per_strip": _MOST_FRAMES,
        "priority_exponent": 0.6,
    }
    with closing(
        Fleet(
            num_actors,
            num_shards,
            lambda index, life: (index,),
            lambda index, life: shard | {"seed": (index, life)},
            walker=Feeder,
        )
    ) as fleet:
        weights: ray.ObjectRef[Any] = ray.put((0, {}))
        shards = [worker for worker in fleet.workers if worker.role == "shard"]
        senders: deque[Worker] = deque()
        num_walks = 0

        def take_in(event: Event) -> int:
            nonlocal num_walks
            if isinstance(event, Walked):
                fleet.store(shards[num_walks % num_shards], event.strips)
                senders.append(event.worker)
                num_walks += 1
            elif isinstance(event, Stored):
                # No faster than shards take in: otherwise the object store fills.
                fleet.walk(senders.popleft(), weights)
                return _STEPS * _GAMES
            return 0

        for worker in fleet.workers:
            if worker.role == "actor":
                for _ in range(_WALKS_UNDER_WAY):
                    fleet.walk(worker, weights)
        # Processes of Ray take seconds to start: the clock runs once all are at work.
        num_stored = 0
        while num_stored < 2 * _WALKS_UNDER_WAY * num_actors * _STEPS * _GAMES:
            num_stored += sum(take_in(event) for event in fleet.events(wait=True))
        num_stored, start = 0, time.monotonic()
        while time.monotonic() - start < seconds:
            num_stored += sum(take_in(event) for event in fleet.events(wait=True))
        return num_stored / (time.monotonic() - start)


def plain_rate(num_actors: int, seconds: float) -> float:
    """Transitions/s that one process takes in, pushed one by one."""
    # Ray's types know no methods of an actor that was a class before.
    replay_type: Any = ray.remote(num_cpus=0)(PlainReplay)
    feeder_type: Any = ray.remote(num_cpus=0)(PlainFeeder)
    replay = replay_type.remote(4_000, describe_environment(GAME).observation)
    feeders = [feeder_type.remote(seed, replay) for seed in range(num_actors)]
    ray.get([feeder.push.remote(0.5) for feeder in feeders])
    before, start = ray.get(replay.num_added.remote()), time.monotonic()
    ray.get([feeder.push.remote(seconds) for feeder in feeders])
    rate = (ray.get(replay.num_added.remote()) - before) / (time.monotonic() - start)
    for handle in (*feeders, replay):
        ray.kill(handle)
    return float(rate)


def random_walk(seed: int, num_steps: int, num_games: int) -> Transitions:
    """Transitions of games that are played at random."""
    environments = Environments(GAME, num_games, seed)
    rng = np.random.default_rng(seed)
    num_actions = describe_environment(GAME).num_actions
    steps = [environments.step(rng.integers(num_actions, size=num_games)) for _ in range(num_steps)]
    return Transitions(*map(np.concatenate, zip(*steps, strict=True)))
