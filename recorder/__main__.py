"""`dqn record`: one process that seals the transition log and watches rewards."""

import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final

import redis
import structlog
from prometheus_client import start_http_server

from contract.files import make_directory
from contract.ledger import LEDGER_FILE, FileLedger, Ledger
from contract.shared_ledger import RedisStream, SharedLedger
from contract.streams import LEDGER_KEY
from recorder.dataset.store import DatasetStore
from recorder.declarations import audits_in
from recorder.hacking import quarantine_in
from recorder.judge import Judge
from recorder.manifests import Manifests
from recorder.metrics import RecorderMetrics
from recorder.observe import Consumer
from recorder.process import AlreadyRecordedError, Recorder, connect
from recorder.reward_health_metrics import HealthMetrics, RewardHealth
from recorder.reward_metrics import RewardMetrics
from recorder.rollout_metrics import RolloutMetrics
from recorder.settings import RecorderSettings, SettingsError

MISCONFIGURED: Final = 2
"""Exit status of a recorder that another try would not help."""
_NICENESS: Final = 10

_log = structlog.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Record until a signal says stop; the exit status."""
    try:
        settings = RecorderSettings.load(sys.argv[1:] if arguments is None else arguments)
        configure_logs(settings.log_level, as_json=settings.log_json)
        wait = _stop_signals(settings.parent_descriptor)
        if settings.parent_descriptor is not None:
            # Beside the workers: they have promised an answer within milliseconds, this has not.
            os.nice(_NICENESS)
        metrics = RecorderMetrics()
        health = HealthMetrics(metrics.registry)
        manifests = Manifests(settings.data / "policies")
        rollouts = RolloutMetrics(metrics.registry)
        audits = audits_in(settings.data / "policies")
        quarantine = quarantine_in(DatasetStore(settings.dataset_root))

        def make_consumers() -> list[Consumer]:
            return [
                RewardMetrics(metrics),
                RewardHealth(health, manifests.find, quarantine, audits),
                make_judge(settings, rollouts),
            ]

        recorder = Recorder(settings, metrics, make_consumers)
    except SettingsError as error:
        sys.stderr.write(f"dqn record: {error}\n")
        return MISCONFIGURED
    except (AlreadyRecordedError, OSError) as error:
        # Another try may help: the other recorder may be about to go.
        sys.stderr.write(f"dqn record: {error}\n")
        return 1
    page = _MetricsPage(settings, metrics)

    def wait_and_tell(seconds: float) -> bool:
        page.open()
        return wait(seconds)

    page.open()
    recorder.run(wait_and_tell)
    return 0


def make_judge(settings: RecorderSettings, metrics: RolloutMetrics) -> Judge:
    """The judge of these shards; after a restart it holds the lease that it held before."""
    shards = settings.shards_folder.resolve()
    return Judge(
        _open_ledger(settings),
        shards / "evidence",
        f"recorder {settings.name or socket.gethostname()}:{shards}",
        metrics.show,
        settings.judge_lease_seconds,
    )


def _open_ledger(settings: RecorderSettings) -> Ledger:
    copy = FileLedger(settings.data / "policies" / LEDGER_FILE)
    make_directory(settings.data / "policies")
    url = settings.read_redis_url()
    if url is None:
        return copy
    stream = RedisStream(connect(url), LEDGER_KEY, (redis.RedisError,))
    return SharedLedger(stream, copy, settings.shards_folder / "orders.json")


def configure_logs(level: str, *, as_json: bool) -> None:
    """Log to standard error, as the service does."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _stop_signals(parent: int | None) -> Callable[[float], bool]:
    """A wait for so many seconds that a signal, or the parent's death, cuts short with True."""
    said_stop, say_stop = os.pipe()

    def stop(number: int, frame: FrameType | None) -> None:
        os.write(say_stop, b"x")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    watched = [said_stop] if parent is None else [said_stop, parent]
    return lambda seconds: bool(select.select(watched, [], [], seconds)[0])


class _MetricsPage:
    """The recorder's own `/metrics`: the log is worth more, so a taken port stops no sealing."""

    def __init__(self, settings: RecorderSettings, metrics: RecorderMetrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._is_open = False
        self._is_complained_of = False

    def open(self) -> None:
        """Listen, unless it does; a port that is taken is tried anew at the next call."""
        if self._is_open:
            return
        port, host = self._settings.metrics_port, self._settings.metrics_host
        try:
            server, _ = start_http_server(port, host, self._metrics.registry)
        except OSError as error:
            if not self._is_complained_of:
                _log.error("metrics_not_told", error=str(error), host=host, port=port)
            self._is_complained_of = True
        else:
            data = str(self._settings.data)
            _log.info("recording", data=data, host=host, port=server.server_port)
            self._is_open = True


if __name__ == "__main__":
    sys.exit(main())
