"""How fast the replay gives batches, and what a million transitions take.

Frames are those of real games under random play, as they compress as games do.
"""

import resource
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.report import Figure
from training.environments import Environments
from training.frame_replay import FrameReplay, ReturnRule
from training.frame_stores import CompressedFrames, FrameStore, RawFrames
from training.prioritised import Priorities
from training.replay import ReplayBuffer, Slots, Transitions

FRAME_SHAPE = (84, 84)
FRAME_BYTES = 84 * 84
GAMES = ("ALE/Pong-v5", "ALE/Breakout-v5")
SLOTS = 1_000_000

_DEPTH = 4
_LANES = 8
_GAME_STEPS = 200
_BATCHES = (32, 256)
_PYTHON_BYTES = 41
"""What Python takes to hold the bytes of one frame: their header and a pointer."""


class Goals(NamedTuple):
    """The best that was measured of others, at batches of 32 and of 256, per CPU second."""

    samples: tuple[float, float]
    rival: str


RAW = Goals((104_000, 36_000), "cpprb, frames shared: 104k / 36k")
COMPRESSED = Goals((20_000, 20_000), "none compresses")
PRIORITISED = Goals((282_000, 675_000), "cpprb 282k / 360k, Tianshou 127k / 675k")
UPDATES = Goals((2_430_000, 8_600_000), "cpprb 2.43M / 8.6M")


def measure_replay(*, quick: bool) -> list[Figure]:
    """All figures of the replay."""
    seconds = 0.1 if quick else 2.0
    num_frames = 20_000 if quick else 200_000
    figures = []
    walks = {game: walk_randomly(game, 40 if quick else _GAME_STEPS) for game in GAMES}
    raw = filled(RawFrames(num_frames, FRAME_SHAPE, np.uint8), num_frames, walks[GAMES[0]])
    figures += _sampling("replay, frames raw", raw, RAW, seconds)
    for game in GAMES:
        store = CompressedFrames(num_frames, FRAME_SHAPE, np.uint8)
        replay = filled(store, num_frames, walks[game])
        figures += _sampling(f"replay, frames of {game} compressed", replay, COMPRESSED, seconds)
        held = len(replay) * 1.0
        gigabytes = (store.num_bytes + _PYTHON_BYTES * num_frames) / held * SLOTS / 1e9
        figures.append(
            Figure.at_most(
                f"replay, a million transitions of {game} compressed", gigabytes, "GB", goal=0.5
            )
        )
    figures += _raw_memory(quick=quick)
    return figures + _prioritised(seconds)


def walk_randomly(game: str, num_steps: int) -> list[Transitions]:
    """Steps of several copies of a game under random actions."""
    environments = Environments(game, _LANES, seed=0)
    rng = np.random.default_rng(0)
    steps = [environments.step(rng.integers(4, size=_LANES)) for _ in range(num_steps)]
    environments.close()
    # Walked again and again, so that each round ends where the next begins.
    steps[-1].truncated[:] = True
    return steps


def filled(store: FrameStore, capacity: int, steps: list[Transitions]) -> FrameReplay:
    """A replay full of these steps, as often as they fit."""
    replay = FrameReplay(store, capacity, _LANES, _DEPTH, ReturnRule(1, 0.99))
    for number in range(capacity // _LANES):
        replay.add(steps[number % len(steps)])
    return replay


def per_cpu_second(call: Callable[[], object], seconds: float) -> float:
    """How often a call can be done in a CPU second, by the best of five stretches."""
    # Reading the clock takes as long as a tenth of the fastest calls: it is read now and then.
    at_once = 1
    while _cpu_seconds(call, at_once) < seconds / 100:
        at_once *= 2
    rates = []
    for _ in range(5):
        count, passed = 0, 0.0
        while passed < seconds / 5:
            passed += _cpu_seconds(call, at_once)
            count += at_once
        rates.append(count / passed)
    return max(rates)


def _cpu_seconds(call: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        call()
    return time.process_time() - began


def _sampling(name: str, replay: FrameReplay, goals: Goals, seconds: float) -> list[Figure]:
    rng = np.random.default_rng(0)
    figures = []
    for size, goal in zip(_BATCHES, goals.samples, strict=True):

        def sample(size: int = size) -> None:
            replay.batch(replay.draw(size, rng))

        rate = size * per_cpu_second(sample, seconds)
        figures.append(_rate(f"{name}: samples at batch {size}", rate, goal, goals.rival))
    return figures


def _raw_memory(*, quick: bool) -> list[Figure]:
    """Grow by as much as is written: the memory of a million follows from that of fewer."""
    slots = 20_000 if quick else SLOTS
    steps = _synthetic(50)
    replay = FrameReplay(
        RawFrames(slots, FRAME_SHAPE, np.uint8), slots, _LANES, _DEPTH, ReturnRule(1, 0.99)
    )
    # What is taken once, by the first additions, is in both and so in neither.
    written = min(slots, 120_000) // _LANES
    begun = written // 6
    for number in range(begun):
        replay.add(steps[number % len(steps)])
    before = _resident_bytes()
    for number in range(begun, written):
        replay.add(steps[number % len(steps)])
    grown = _resident_bytes() - before
    gigabytes = grown / ((written - begun) * _LANES) * SLOTS / 1e9
    return [
        Figure.at_most(
            "replay, a million transitions with next states raw", gigabytes, "GB", goal=7.1
        )
    ]


def _prioritised(seconds: float) -> list[Figure]:
    rng = np.random.default_rng(0)
    replay = ReplayBuffer(SLOTS, (4,), np.float32)
    priorities = Priorities(SLOTS, 0.6)
    for _ in range(10):
        size = SLOTS // 10
        changed = replay.add(_small(size, rng))
        priorities.admit(changed.ready)
        priorities.update(changed.ready, rng.random(size).astype(np.float32))
    figures = []
    for size, samples, updates in zip(_BATCHES, PRIORITISED.samples, UPDATES.samples, strict=True):

        def sample(size: int = size) -> None:
            slots = priorities.draw(size, rng)
            replay.batch(slots)._replace(weights=priorities.importance_weights(slots, 0.4))

        slots = [priorities.draw(size, rng) for _ in range(256)]
        errors = [rng.random(size).astype(np.float32) for _ in range(256)]
        pairs = cycle(zip(slots, errors, strict=True))

        def update(pairs: Iterator[tuple[Slots, npt.NDArray[np.float32]]] = pairs) -> None:
            priorities.update(*next(pairs))

        name = "replay, a million slots prioritised"
        rate = size * per_cpu_second(sample, seconds)
        figures.append(_rate(f"{name}: samples at batch {size}", rate, samples, PRIORITISED.rival))
        rate = size * per_cpu_second(update, seconds)
        figures.append(_rate(f"{name}: updates at batch {size}", rate, updates, UPDATES.rival))
    return figures


def _rate(name: str, rate: float, goal: float, rival: str) -> Figure:
    return Figure(
        name,
        rate,
        "per CPU second",
        goal=f"at least {goal:g}",
        rival=f"{rival} (measured before, quiet)",
        ratio=rate / goal,
        met=rate >= goal,
    )


def _synthetic(num_steps: int) -> list[Transitions]:
    stacks = np.random.default_rng(0).integers(
        256, size=(num_steps + 1, _LANES, _DEPTH, *FRAME_SHAPE), dtype=np.uint8
    )
    nothing = np.zeros(_LANES, np.bool_)
    return [
        Transitions(
            stacks[number],
            np.zeros(_LANES, np.int64),
            np.zeros(_LANES, np.float32),
            stacks[number + 1],
            nothing,
            nothing,
        )
        for number in range(num_steps)
    ]


def _small(size: int, rng: np.random.Generator) -> Transitions:
    observations = rng.random((size, 4), np.float32)
    return Transitions(
        observations,
        rng.integers(2, size=size),
        rng.random(size, np.float32),
        observations,
        np.zeros(size, np.bool_),
        np.zeros(size, np.bool_),
    )


def _resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
