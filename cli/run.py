"""`dqn run`: the whole ring on one machine: train, export, serve, and agents that live on it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict
from rich.console import Console

from cli.agents import Agents
from contract.bundle import versions_in
from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest
from dqn_client import Client, ClientError

_ENVIRONMENTS: Final = {"cartpole": "CartPole-v1", "lunarlander": "LunarLander-v3"}
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 25.0


class RunError(Exception):
    """One of the ring's processes did not do its part."""


class RunConfig(BaseSettings):
    """Train a policy if there is none, serve it, and let live agents act on it."""

    model_config = SettingsConfigDict(
        env_prefix="DQN_RUN_",
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        use_attribute_docstrings=True,
    )

    policy: str = Field(default="cartpole", pattern="^(cartpole|lunarlander)$")
    """Preset to train, and name to serve it under."""

    data: Path = Path("data")
    """Folder for everything that is kept."""

    port: int = Field(default=8000, ge=1, le=65535)
    """Port to serve on, on this machine only."""

    agents: bool = True
    """Let live agents act through the HTTP API."""

    num_agents: int = Field(default=4, ge=1, le=64)
    """How many."""

    steps_per_second: float = Field(default=100.0, gt=0)
    """How fast each of them acts."""

    seconds: float | None = Field(default=None, gt=0)
    """Stop after so long; without it, on Ctrl-C."""


def main(arguments: Sequence[str]) -> int:
    """Run the ring until Ctrl-C; the exit status."""
    config = CliApp.run(RunConfig, cli_args=list(arguments))
    console = Console()
    with _stop_event() as stop:
        try:
            _make_policy(config, console, stop)
            if not stop.is_set():
                _serve(config, console, stop)
        except RunError as error:
            Console(stderr=True).print(f"dqn run: {error}", style="red", highlight=False)
            return 1
    return 0


def _make_policy(config: RunConfig, console: Console, stop: threading.Event) -> None:
    """See that a version is in the repository and that the ledger says it is to serve."""
    repository = config.data / "policies"
    checkpoints = config.data / "training" / config.policy
    if not versions_in(repository / config.policy):
        _train(config.policy, checkpoints, console, stop)
        if stop.is_set():
            return
        console.print(f"[bold]exporting {config.policy}[/]")
        _call(
            stop,
            "exporter",
            str(checkpoints / "best"),
            *("--repository", str(repository), "--policy", config.policy),
        )
    if stop.is_set():
        return
    ledger = FileLedger(repository / LEDGER_FILE)
    entries = ledger.read_after(0)
    if not any(e.policy == config.policy and e.action == "promote" for e in entries):
        first = Entry(
            action="promote",
            policy=config.policy,
            version=versions_in(repository / config.policy)[0],
            who="dqn run",
            why="the first version, made by this command",
        )
        append_latest(ledger, first)


def _train(policy: str, checkpoints: Path, console: Console, stop: threading.Event) -> None:
    """Train to the end, going on with a run that was cut short."""
    trained = checkpoints / "trained"
    if trained.exists():
        return
    console.print(f"[bold]training {policy}[/] (about a minute, once)")
    if (checkpoints / "last").is_dir():
        _call(stop, "training", "--resume", str(checkpoints))
    else:
        _call(stop, "training", "--preset", policy, "--out", str(checkpoints))
    if not stop.is_set():
        trained.touch()


def _serve(config: RunConfig, console: Console, stop: threading.Event) -> None:
    url = f"http://127.0.0.1:{config.port}"
    service = _start(
        "service",
        "--data",
        str(config.data),
        "--port",
        str(config.port),
        *("--drain-notice-seconds", "0"),
    )
    try:
        _wait_until_ready(service, url, stop)
        console.print(_welcome(url, config.policy), highlight=False)
        agents = None
        if config.agents and not stop.is_set():
            environment_id = _ENVIRONMENTS[config.policy]
            agents = Agents(
                url, config.policy, environment_id, config.num_agents, config.steps_per_second
            )
            agents.start()
            _watch(agents, service, config.seconds, console, stop)
            agents.stop()
            console.print(agents.tally.sentence(0.0), highlight=False)
        else:
            _wait(lambda: service.poll() is not None, config.seconds, stop)
        if service.poll() is not None:
            raise RunError(f"the service stopped by itself with status {service.returncode}")
    finally:
        _stop_process(service)
    console.print("stopped")


def _watch(
    agents: Agents,
    service: "subprocess.Popen[bytes]",
    seconds: float | None,
    console: Console,
    stop: threading.Event,
) -> None:
    began_at, before = time.monotonic(), 0
    pause = 1.0 if console.is_terminal else 10.0
    with console.status("the agents begin") as status:
        while service.poll() is None and not stop.wait(pause):
            decisions = agents.tally.decisions
            sentence = agents.tally.sentence((decisions - before) / pause)
            before = decisions
            if console.is_terminal:
                status.update(sentence)
            else:
                console.print(sentence, highlight=False)
            if seconds is not None and time.monotonic() - began_at > seconds:
                return


def _wait_until_ready(service: "subprocess.Popen[bytes]", url: str, stop: threading.Event) -> None:
    def is_ready() -> bool:
        if service.poll() is not None:
            raise RunError(f"the service did not start (status {service.returncode})")
        try:
            with Client(url) as client:
                return bool(client.get("/readyz")["ready"])
        except ClientError:
            return False

    if not _wait(is_ready, _START_SECONDS, stop) and not stop.is_set():
        raise RunError(f"the service was not ready within {_START_SECONDS:.0f} s")


def _wait(is_done: Callable[[], bool], seconds: float | None, stop: threading.Event) -> bool:
    """Wait until something is so; False where time ran out or somebody said stop."""
    until = None if seconds is None else time.monotonic() + seconds
    while not is_done():
        if stop.wait(0.1) or (until is not None and time.monotonic() > until):
            return False
    return True


def _start(module: str, *arguments: str) -> "subprocess.Popen[bytes]":
    # In a session of its own, so that Ctrl-C reaches this process alone and all stop in order.
    return subprocess.Popen([sys.executable, "-m", module, *arguments], start_new_session=True)


def _call(stop: threading.Event, module: str, *arguments: str) -> None:
    process = _start(module, *arguments)
    try:
        _wait(lambda: process.poll() is not None, None, stop)
        if not stop.is_set() and process.returncode != 0:
            raise RunError(f"`{module} {' '.join(arguments)}` ended with {process.returncode}")
    finally:
        _stop_process(process)


def _stop_process(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """Set by Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _welcome(url: str, policy: str) -> str:
    return "\n".join(
        [
            "",
            f"[bold]{policy} is served[/]; stop with Ctrl-C",
            f"  actions    POST {url}/v1/actions",
            f"  reference  {url}/docs",
            f"  policies   {url}/v1/policies",
            f"  metrics    {url}/metrics",
            f"  ready      {url}/readyz",
            "",
        ]
    )
