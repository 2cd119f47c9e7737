"""The recorder beside the workers of one box: a process of its own, started anew when it dies."""

import subprocess
import sys
import time
from typing import Final

import structlog

from service.settings import ServiceSettings

_GIVE_UP: Final = 2
"""Exit status of a recorder that another try would not help."""
_LONGEST_PAUSE_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class Companion:
    """Owns the recorder's process. Nothing here waits for it but `stop`."""

    def __init__(self, settings: ServiceSettings, supervisor_death: int) -> None:
        self._death = supervisor_death
        self._command = [
            sys.executable,
            "-m",
            "recorder",
            f"--data={settings.data}",
            f"--parent-descriptor={supervisor_death}",
            f"--log-level={settings.log_level}",
            "--log-json" if settings.log_json else "--no-log-json",
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._pause_seconds = 0.0
        self._start_at = 0.0
        self._has_given_up = False

    def watch(self) -> None:
        """Start it if it does not run; to be called now and then."""
        if self._has_given_up:
            return
        if self._process is None:
            if time.monotonic() >= self._start_at:
                self._start()
            return
        status = self._process.poll()
        if status is None:
            return
        self._process = None
        if status == _GIVE_UP:
            # It has said why. The service answers without it, and the spool keeps the records.
            _log.error("recorder_refused")
            self._has_given_up = True
            return
        self._pause_seconds = min(max(2 * self._pause_seconds, 0.5), _LONGEST_PAUSE_SECONDS)
        if time.monotonic() - self._start_at > _LONGEST_PAUSE_SECONDS:
            self._pause_seconds = 0.0
        _log.error("recorder_died", status=status, again_in_seconds=self._pause_seconds)
        self._start_at = time.monotonic() + self._pause_seconds

    def stop(self) -> None:
        """Let it seal what the workers have left, and go."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # What it has not sealed is in the spool.
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._start_at = time.monotonic()
        try:
            # In a session of its own: Ctrl-C is for the supervisor, which stops it after the
            # workers.
            self._process = subprocess.Popen(
                self._command, pass_fds=(self._death,), start_new_session=True
            )
        except OSError as error:
            # No memory or no process left, for now.
            _log.error("recorder_not_started", error=str(error))
            self._start_at += _LONGEST_PAUSE_SECONDS
