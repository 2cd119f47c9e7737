"""A TCP proxy that can stall, and swallow answers: a partition between two processes."""

import socket
import threading
import time
from contextlib import suppress
from typing import Literal

Mood = Literal["pass", "stall", "swallow"]
_CHUNK_BYTES = 65536


class Proxy:
    """Forwards connections to one port.

    `stall` forwards nothing and closes nothing; `swallow` forwards requests, and closes the
    connection in place of the answer.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._mood: Mood = "pass"
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._is_open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def set_mood(self, mood: Mood) -> None:
        """Behave so from now on, also on connections that are open."""
        self._mood = mood

    def close(self) -> None:
        """Accept no more."""
        self._is_open = False
        self._listening.close()

    def _accept(self) -> None:
        while self._is_open:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for source, target, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pump, args=(source, target, is_answer), daemon=True
                ).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        # Either end may be gone at any moment: that is what it is for.
        with suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                while self._mood == "stall":
                    time.sleep(0.01)
                if is_answer and self._mood == "swallow":
                    break
                target.sendall(chunk)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
