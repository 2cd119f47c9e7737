"""The supervisor: owns the listening socket and the workers, and replaces one that dies."""

import fcntl
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version as release_of
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from types import FrameType
from typing import Final

import structlog

from service.companion import Companion
from service.history import HISTORY_FILE, History, configuration_of
from service.keys import Keys, KeysError
from service.logs import configure_logs
from service.metrics import Metrics
from service.pages import Page
from service.server import Place
from service.settings import ServiceSettings, SettingsError
from service.worker import MISCONFIGURED, run_worker

_BACKLOG: Final = 2048
_KILL_GRACE_SECONDS: Final = 5.0
_QUICK_DEATH_SECONDS: Final = 2.0
_LONGEST_PAUSE_SECONDS: Final = 5.0
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger(__name__)


class Supervisor:
    """Owns the workers. Single-threaded, because it forks."""

    def __init__(self, settings: ServiceSettings, listening: Sequence[socket.socket]) -> None:
        self._settings = settings
        self._listening = listening
        self._context = multiprocessing.get_context("fork")
        self._workers: dict[int, tuple[ForkProcess, float]] = {}
        self._pauses = dict.fromkeys(range(settings.workers), 0.0)
        self._stopping = False
        self._generation = 0
        # Held open by this process alone: workers read its end as the supervisor's death.
        self._death_read, self._life = os.pipe()
        # With Redis the recorder is deployed by itself: it reads every replica's records.
        is_recorded = settings.record and settings.redis_url is None
        self._recorder = Companion(settings, self._death_read) if is_recorded else None
        metrics = Metrics(Page(settings.pages, "supervisor"))
        self._restarts = metrics.counter("dqn_worker_restarts_total")
        self._history = History(settings.data / "run" / HISTORY_FILE)

    def run(self) -> int:
        """Run until a signal says stop; the exit status."""
        for number in _STOPS:
            signal.signal(number, self._on_signal)
        self._history.note_start(release_of("dqn-serving"), configuration_of(self._settings))
        for slot in range(self._settings.workers):
            self._start_worker(slot)
        status = 0
        while not self._stopping:
            wait([worker.sentinel for worker, _ in self._workers.values()], timeout=0.5)
            status = self._replace_dead()
            if status:
                break
            if self._recorder is not None:
                self._recorder.watch()
        self._stop_workers()
        if self._recorder is not None:
            self._recorder.stop()
        self._history.note("stopped", "by a signal" if self._stopping else f"status {status}")
        return status

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _start_worker(self, slot: int) -> None:
        self._generation += 1
        name = f"worker-{slot}-{self._generation}"
        worker = self._context.Process(
            target=self._in_worker, args=(slot, name), name=name, daemon=False
        )
        # Until the child has handlers of its own, a signal would be taken by its copy of ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            worker.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        self._workers[slot] = (worker, time.monotonic())

    def _in_worker(self, slot: int, name: str) -> None:
        os.close(self._life)
        for number in _STOPS:
            # uvicorn takes these over while it serves, and raises them again once it is done.
            signal.signal(number, lambda *_: sys.exit(0))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        # One worker of those that start together tells probes how it goes; all others, and one that
        # replaces a dead one, take connections once they can answer them.
        is_first = self._generation <= self._settings.workers
        place = Place(slot, self._settings.workers == 1 or (slot == 0 and is_first))
        run_worker(self._settings, self._listening, place, name, self._death_read)

    def _replace_dead(self) -> int:
        """Start anew what died; the status to exit with where that would not help."""
        for slot, (worker, started_at) in list(self._workers.items()):
            if worker.is_alive() or self._stopping:
                continue
            if worker.exitcode == MISCONFIGURED:
                return MISCONFIGURED
            _log.error("worker_died", slot=slot, pid=worker.pid, status=worker.exitcode)
            self._restarts.add()
            ended = _ending_of(worker.exitcode)
            self._history.note("worker_died", f"worker {slot}, pid {worker.pid}, {ended}")
            is_quick = time.monotonic() - started_at < _QUICK_DEATH_SECONDS
            # A worker that dies at its start must not eat the machine by being started at once.
            pause = min(max(2 * self._pauses[slot], 0.1), _LONGEST_PAUSE_SECONDS)
            self._pauses[slot] = pause if is_quick else 0.0
            time.sleep(self._pauses[slot])
            self._start_worker(slot)
        return 0

    def _stop_workers(self) -> None:
        workers = [worker for worker, _ in self._workers.values()]
        # Theirs are the last copies: once they stop listening, a client is refused at once.
        for each in self._listening:
            each.close()
        for worker in workers:
            worker.terminate()
        notice = self._settings.drain_notice_seconds
        until = time.monotonic() + notice + self._settings.drain_seconds + _KILL_GRACE_SECONDS
        for worker in workers:
            worker.join(max(0.0, until - time.monotonic()))
            if worker.is_alive():
                _log.error("worker_killed", pid=worker.pid)
                worker.kill()
                worker.join()


def _ending_of(status: int | None) -> str:
    """How a process ended, in words."""
    if status is not None and status < 0:
        return f"by signal {-status}"
    return f"with status {status}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    is_check = "--check" in arguments
    try:
        settings = ServiceSettings.load([each for each in arguments if each != "--check"])
        # Read here too: a worker could only tell of a bad file by dying of it.
        Keys(settings.keys_file)
        if is_check:
            sys.stdout.write("the settings are valid\n")
            return 0
        lock = _lock_data(settings)
        listening = _listen_all(settings)
    except (SettingsError, KeysError, OSError) as error:
        sys.stderr.write(f"dqn serve: {error}\n")
        return MISCONFIGURED
    configure_logs(settings.log_level, as_json=settings.log_json)
    urls = [f"http://{host}:{port}" for host, port in map(_address, listening)]
    _log.info("serving", url=urls[0], admin_url=urls[-1], workers=settings.workers)
    try:
        return Supervisor(settings, listening).run()
    finally:
        for each in listening:
            each.close()
        os.close(lock)


def _lock_data(settings: ServiceSettings) -> int:
    """Own the data folder: two supervisors over one would share spools and metrics."""
    run_folder = settings.data / "run"
    run_folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_folder / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OSError(f"{settings.data} is served by another process") from None
    # Counters begin at zero with the service, as a scraper expects.
    shutil.rmtree(settings.pages, ignore_errors=True)
    for left_behind in run_folder.glob("*.sock"):
        left_behind.unlink()
    return descriptor


def _listen_all(settings: ServiceSettings) -> list[socket.socket]:
    """For agents, and behind it for operators where they have an address of their own."""
    listening = [_listen(settings.host, settings.port)]
    if settings.admin is not None:
        try:
            listening.append(_listen(*settings.admin))
        except OSError:
            listening[0].close()
            raise
    return listening


def _address(listening: socket.socket) -> tuple[str, int]:
    host, port = listening.getsockname()[:2]
    return f"[{host}]" if ":" in host else host, port


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OSError(f"cannot listen on {host}:{port}: {error}") from error
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening


if __name__ == "__main__":
    sys.exit(main())
