"""Unattended cycles in a row: agents live, logs are poisoned, nobody looks.

Everything is the product's own, in processes of its own; what is known here and to nobody there is
what each version truly returns. All of it lies in one folder, so that a drill that was cut off goes
on with the cycle that it was in.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import msgspec
import numpy as np

from benchmarks.retraining.garbage import write_garbage
from benchmarks.retraining.mediocre import true_returns, write_first_version
from benchmarks.retraining.poles import HEALTHY, POLICY, Poles, World
from benchmarks.retraining.ring import PLAN, Ring, prepare, ring
from benchmarks.serving.processes import cpu_seconds
from dqn_client import Client
from retraining.cycle import REPORT_FILE
from retraining.state import CycleState

GARBAGE: Final = "garbage"
FAULTS: Final[dict[int, str]] = {4: "paid for a fault", 8: GARBAGE, 12: "disobeyed", 16: "shifted"}
"""Cycle, counted from 0, to what is wrong while its log is written."""
WORLDS: Final = {
    "paid for a fault": World(left_pays=5.0),
    "disobeyed": World(slip=0.5),
    "shifted": World(shift=0.1),
}
KILLED: Final = (2, 10)
"""Cycles whose process is killed once it judges, and started again."""

_STORY: Final = ("retrain", "register", "shadow", "canary", "promote", "abort")
_GARBAGE_EPISODES: Final = 400
_SEAL_SECONDS: Final = 4.0
_LAST_STEPS: Final = 4_000
"""Once a cycle is over: what agents earn by then is counted, too."""
_LOOK_SECONDS: Final = 0.2
_TRIAL_SECONDS: Final = 900.0
_MOST_ATTEMPTS: Final = 10


class CycleSizes(NamedTuple):
    """How much is done."""

    cycles: int
    new_steps: int
    """Logged before each cycle; agents go on while it learns and while its trial lasts."""
    flags: tuple[str, ...]
    """Of `dqn retrain`."""
    poles: int
    pause_seconds: float
    """Between two steps of all poles."""


_SMALL: Final = (
    *("--most-steps", "30000", "--shadow-seconds", "1"),
    *("--profile-episodes", "20", "--profile-observations", "2000", "--floor-episodes", "20"),
)
CYCLES: Final = CycleSizes(
    cycles=20,
    new_steps=24_000,
    flags=(
        *_SMALL,
        *("--offline.alphas", "[0.03, 0.1]", "--offline.updates", "600"),
        *("--offline.candidate-updates", "[150, 300]"),
        *("--dynamics.updates", "1500", "--dynamics.members", "4", "--dynamics.starts", "128"),
        # Where the model is not believed.
        *("--fitted.updates", "1500", "--fitted.draws", "4"),
    ),
    poles=32,
    pause_seconds=0.01,
)
QUICK_CYCLES: Final = CYCLES._replace(
    cycles=1,
    new_steps=10_000,
    flags=(
        *_SMALL,
        *("--limits.least-episodes", "20", "--offline.alphas", "[0.1]", "--offline.updates", "100"),
        *("--offline.candidate-updates", "[50]", "--dynamics.updates", "200"),
        *("--fitted.updates", "200", "--practice.updates", "200"),
    ),
)


class CycleFound(msgspec.Struct, frozen=True, kw_only=True):
    """What one cycle came to."""

    number: int
    cycle_id: str
    fault: str | None
    outcome: str
    sentence: str
    trial: str | None
    """How its trial ended; None where there was none."""
    stable_before: int
    stable_after: int
    true_return: float
    """Of stable after."""
    change: float
    """Of the true return, from stable before to stable after, start by start."""
    live_return: float
    """Mean of what agents earned meanwhile in a healthy world, whoever answered."""
    live_standard_error: float
    live_episodes: int
    failed_requests: int
    rows: dict[str, int]
    """By who answered."""
    attempts: int
    """Processes of `dqn retrain` that it took."""
    has_report: bool
    ledger: list[str]
    """What was done to the policy meanwhile, in order."""
    cpu_seconds: float
    """Of the cycle's processes."""
    wall_seconds: float


def run_cycles(
    folder: Path, sizes: CycleSizes, say: Callable[[str], None] = print
) -> list[CycleFound]:
    """Run cycles, or go on with them, in a folder that may be empty."""
    if not (folder / "data" / "policies" / POLICY / "1").exists():
        prepare(folder)
        say(f"first version: {write_first_version(folder / 'data', folder / 'declaration.toml')}")
    found = read_found(folder)
    with ring(folder) as here, here.client() as client:
        if stable(client) is None:
            client.change(POLICY, "promote", {"version": 1, "first": True, "why": "the drill"})
            _put_plan(here)
        key = here.key("agents")
        poles = Poles(here.service, key, sizes.poles, sizes.pause_seconds, seed=len(found))
        try:
            while len(found) < sizes.cycles:
                found.append(_cycle(here, client, poles, len(found), sizes))
                with _kept(folder).open("ab") as file:
                    file.write(msgspec.json.encode(found[-1]) + b"\n")
                say(_line(found[-1]))
        finally:
            poles.stop()
    return found


def read_found(folder: Path) -> list[CycleFound]:
    """What a drill in this folder has found so far."""
    if not _kept(folder).exists():
        return []
    lines = _kept(folder).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=CycleFound) for line in lines]


def stable(client: Client) -> int | None:
    """The version that serves."""
    found: int | None = client.get(f"/v1/policies/{POLICY}/rollout")["stable"]
    return found


def _cycle(here: Ring, client: Client, poles: Poles, number: int, sizes: CycleSizes) -> CycleFound:
    began = time.monotonic()
    why = f"cycle {number} of the drill"
    if len(here.states()) == number:
        _write_log(here, client, poles, FAULTS.get(number), sizes.new_steps)
        client.change(POLICY, "retrain", {"why": why, "key": why})
    attempts, cpu = _retrain(here, number, sizes.flags)
    state = here.states()[number]
    trial = _end_of_trial(client) if state.outcome == "canary" else None
    before, after = state.parent or 0, stable(client) or 0
    returns = {each: _returns(here, each) for each in (before, after)}
    poles.play(_LAST_STEPS, HEALTHY)
    tally = poles.take_tally()
    return CycleFound(
        number=number,
        cycle_id=state.cycle_id,
        fault=FAULTS.get(number),
        outcome=state.outcome or "",
        sentence=state.sentence,
        trial=trial,
        stable_before=before,
        stable_after=after,
        true_return=float(returns[after].mean()),
        change=float((returns[after] - returns[before]).mean()),
        live_return=float(np.mean(tally.returns)),
        live_standard_error=float(np.std(tally.returns, ddof=1) / len(tally.returns) ** 0.5),
        live_episodes=len(tally.returns),
        failed_requests=tally.failed,
        rows=dict(tally.rows),
        attempts=attempts,
        has_report=_has_report(here, state),
        ledger=_done_since(client, why),
        cpu_seconds=cpu,
        wall_seconds=time.monotonic() - began,
    )


def _write_log(here: Ring, client: Client, poles: Poles, fault: str | None, steps: int) -> None:
    """Let agents live for a while, in a world that may be at fault until the cycle begins."""
    poles.play(steps, WORLDS.get(fault or "", HEALTHY))
    if fault == GARBAGE:
        version = stable(client) or 0
        rng = np.random.default_rng(version)
        write_garbage(here.redis_url, here.schema_hash, version, _GARBAGE_EPISODES, rng)
    time.sleep(_SEAL_SECONDS)
    poles.world = HEALTHY


def _retrain(here: Ring, number: int, flags: tuple[str, ...]) -> tuple[int, float]:
    """Start `dqn retrain --once` until the cycle is over; how often, and its CPU time."""
    cpu, cpu_now, kills = 0.0, 0.0, int(number in KILLED)
    for attempt in range(1, _MOST_ATTEMPTS + 1):
        with here.retraining(flags) as process:
            while process.poll() is None:
                cpu_now = cpu_seconds(process.pid)
                states = here.states()
                if kills and len(states) > number and states[number].stage == "judge":
                    kills -= 1
                    process.kill()
                    process.wait()
                time.sleep(_LOOK_SECONDS)
        cpu += cpu_now
        states = here.states()
        if len(states) > number and states[number].is_over:
            return attempt, cpu
    raise RuntimeError(f"cycle {number} was not over after {_MOST_ATTEMPTS} attempts")


def _end_of_trial(client: Client) -> str:
    until = time.monotonic() + _TRIAL_SECONDS
    while time.monotonic() < until:
        outcome: str = client.get(f"/v1/policies/{POLICY}/rollout")["rollout"]["outcome"]
        if outcome != "open":
            return outcome
        time.sleep(_LOOK_SECONDS)
    # What nobody would do unattended: it is told as a trial that a person had to end.
    client.change(POLICY, "abort", {"why": "the drill waits no longer"})
    return "undecided"


def _returns(here: Ring, version: int) -> Any:
    policy = here.policy(version)
    return true_returns(lambda rows: policy.decide(rows).actions)


def _put_plan(here: Ring) -> None:
    httpx.put(
        f"{here.service}/v1/policies/{POLICY}/rollout",
        params={"why": "the drill"},
        json=PLAN,
        headers={"authorization": f"Bearer {here.key('operator')}"},
        timeout=30.0,
    ).raise_for_status()


def _has_report(here: Ring, state: CycleState) -> bool:
    path = here.data / "retraining" / POLICY / state.cycle_id / REPORT_FILE
    told = path.read_text("utf-8") if path.exists() else ""
    return f"**{state.outcome}**" in told and state.sentence in told


def _done_since(client: Client, why: str) -> list[str]:
    """What the ledger says was done since a cycle was asked for."""
    entries = client.get(f"/v1/policies/{POLICY}/ledger")["entries"]
    begins = next(place for place, entry in enumerate(entries) if entry["why"] == why)
    return [each["action"] for each in entries[begins:] if each["action"] in _STORY]


def _kept(folder: Path) -> Path:
    return folder / "cycles.jsonl"


def _line(found: CycleFound) -> str:
    return (
        f"cycle {found.number} ({found.fault or 'healthy'}): {found.outcome}, {found.trial}, "
        f"v{found.stable_before} -> v{found.stable_after}, true {found.true_return:.1f} "
        f"({found.change:+.1f}), live {found.live_return:.1f}, {found.cpu_seconds:.0f} CPU s of "
        f"{found.wall_seconds:.0f} s, {found.sentence}"
    )
