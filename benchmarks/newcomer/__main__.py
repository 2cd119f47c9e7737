"""`python -m benchmarks.newcomer [--quick] [--write]`: from nothing to a decision, and to a canary.

Clones this repository afresh, makes its environment, and goes the three ways that newcomers come.
Downloads are timed apart. `--quick` borrows this checkout's environment.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.report import Figure, print_figures, write_result
from benchmarks.serving.processes import free_port
from benchmarks.training.rivals.environments import LIBRARIES, install

ROOT: Final = Path(__file__).parents[2]
LIMIT_SECONDS: Final = 300.0
_PATIENCE_SECONDS: Final = 1500.0
_SB3: Final = LIBRARIES[0]
_OBSERVATION: Final = {"observations": [[0.01, -0.02, 0.03, 0.04]]}
_STAGES: Final = """\
mode = "guard"
margin = 0.3
return_range = [0, 50]
stages = [{ share = 0.2, hold_seconds = 5, minimum_blocks = 5 },
          { share = 0.5, hold_seconds = 5, minimum_blocks = 10 }]
"""


@dataclass(frozen=True)
class Took:
    """What one way took."""

    cpu_seconds: float
    """User and system time of all its processes."""
    wall_seconds: float


@dataclass(frozen=True)
class Newcomer:
    """Somebody at a shell in a fresh clone."""

    clone: Path
    server: str

    def run(self, *command: str) -> None:
        """Type a command and wait for its end."""
        subprocess.run(command, cwd=self.clone, env=self._environment(), check=True)

    def dqn(self, *arguments: str) -> None:
        """Type a verb."""
        self.run(".venv/bin/dqn", *arguments)

    @contextmanager
    def running(self, *command: str) -> Iterator[None]:
        """A command in the background, stopped and waited for at the end."""
        process = subprocess.Popen(
            command, cwd=self.clone, env=self._environment(), start_new_session=True
        )
        try:
            yield
        finally:
            # As Ctrl-C does: to all that the command has started.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.wait(60)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DQN_")}
        port = self.server.rpartition(":")[2]
        told = {"DQN_SERVER": self.server, "DQN_SERVE_PORT": port, "DQN_RUN_PORT": port}
        # Somebody's first machine may be full and busy: neither is timed here.
        told |= {"DQN_SERVE_DISK_FREE_SHARE": "0", "DQN_SERVE_DEADLINE_MS": "1000"}
        return kept | told | {"PYTHONPATH": str(self.clone), "DQN_RECORD_METRICS_PORT": "0"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Go all three ways; 1 where one takes too long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.newcomer", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="borrow this checkout's environment")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results")
    options = parser.parse_args(arguments)
    install(_SB3)
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        figures = walk(Path(folder), is_quick=options.quick)
    print_figures("A newcomer's ways in, machine time beyond downloads", figures)
    if options.write:
        command = ["python", "-m", "benchmarks.newcomer", *(arguments or sys.argv[1:])]
        print(write_result("newcomer", command, ["torch", "gymnasium"], figures))
    return int(any(figure.met is False for figure in figures))


def walk(folder: Path, *, is_quick: bool) -> list[Figure]:
    """All that is measured, below one folder."""
    clone = folder / "clone"
    newcomer = Newcomer(clone, f"http://127.0.0.1:{free_port()}")
    cloned = timed(lambda: _clone(clone))
    if is_quick:
        (clone / ".venv").symlink_to(ROOT / ".venv")
        installed = Took(0.0, 0.0)
    else:
        installed = timed(lambda: newcomer.run("make", "install"))
    # `make` would install this checkout's environment anew, from the clone.
    command = (".venv/bin/dqn", "run") if is_quick else ("make", "run")
    first = timed(lambda: first_decision(newcomer, command))
    model = folder / "model.zip"
    subprocess.run([_SB3.python, Path(__file__).with_name("their_model.py"), model], check=True)
    own = timed(lambda: own_decision(newcomer, model))
    canary = timed(lambda: promoted_canary(newcomer, model))
    ways = {
        "clone to first decision": _sum(cloned, first),
        "own SB3 model to first decision": own,
        "own SB3 model to promoted canary": _sum(own, canary),
    }
    figures = []
    for name, took in ways.items():
        figures.append(Figure.at_most(f"{name}: CPU time", took.cpu_seconds, "s", LIMIT_SECONDS))
        figures.append(Figure(f"{name}: wall clock", took.wall_seconds, "s"))
    if not is_quick:
        figures.append(Figure("make install, downloads included", installed.wall_seconds, "s"))
    return figures


def first_decision(newcomer: Newcomer, command: Sequence[str]) -> None:
    """`make run`, until the model that it has trained gives an action."""
    with newcomer.running(*command):
        _wait_for_model(newcomer, "cartpole")


def own_decision(newcomer: Newcomer, model: Path) -> None:
    """Adopt, serve, promote, ask."""
    _adopt(newcomer, model)
    with _served(newcomer):
        newcomer.dqn("promote", "own", "1", "--first", "--why", "what we have")
        _wait_for_model(newcomer, "own")


def promoted_canary(newcomer: Newcomer, model: Path) -> None:
    """The same model again as version 2, which takes longest to be found no worse."""
    _adopt(newcomer, model)
    (newcomer.clone / "stages.toml").write_text(_STAGES, encoding="utf-8")
    with ExitStack() as stack:
        stack.enter_context(_served(newcomer))
        newcomer.dqn("push", "own", "2", "--why", "a trial")
        for seed in range(2):
            play = (".venv/bin/python", "-m", "benchmarks.newcomer.play", newcomer.server)
            stack.enter_context(newcomer.running(*play, "own", str(seed)))
        newcomer.dqn("canary", "own", "2", "--stages", "stages.toml", "--why", "a trial")
        _wait_until(lambda: _verdict(newcomer)["verdict"] == "promote")
        newcomer.dqn("promote", "own", "2", "--why", "its evidence")


@contextmanager
def _served(newcomer: Newcomer) -> Iterator[None]:
    with newcomer.running(".venv/bin/dqn", "serve", "--data", "own"):
        _wait_until(lambda: _get(newcomer, "/readyz") is not None)
        yield


def timed(do: Callable[[], object]) -> Took:
    """What something took, with the processes that it has started and waited for."""
    began_at, cpu = time.monotonic(), _children_cpu_seconds()
    do()
    return Took(_children_cpu_seconds() - cpu, time.monotonic() - began_at)


def _sum(*parts: Took) -> Took:
    return Took(sum(each.cpu_seconds for each in parts), sum(each.wall_seconds for each in parts))


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _clone(target: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)


def _adopt(newcomer: Newcomer, model: Path) -> None:
    flags = ("--repository", "own/policies", "--policy", "own", "--heuristic", "random")
    world = ("--vecnormalize", "none", "--environment", "CartPole-v1")
    newcomer.dqn("adopt", str(model), *flags, *world)


def _wait_for_model(newcomer: Newcomer, policy: str) -> None:
    def is_answered() -> bool:
        answer = _get(newcomer, "/v1/actions", _OBSERVATION | {"policy": policy})
        return answer is not None and answer["answered_by"][0]["source"] == "model"

    _wait_until(is_answered)


def _verdict(newcomer: Newcomer) -> dict[str, Any]:
    told = _get(newcomer, "/v1/policies/own/rollout/verdict") or {"verdict": None}
    if told.get("outcome") == "rolled_back":
        raise RuntimeError(f"the canary was rolled back: {told['sentence']}")
    return told


def _get(
    newcomer: Newcomer, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """What the server answers; None where it does not."""
    try:
        method = "GET" if body is None else "POST"
        response = httpx.request(method, f"{newcomer.server}{path}", json=body, timeout=10.0)
    except httpx.TransportError:
        return None
    found: dict[str, Any] | None = json.loads(response.content) if response.is_success else None
    return found


def _wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {_PATIENCE_SECONDS:.0f} s")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
