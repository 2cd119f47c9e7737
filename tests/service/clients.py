"""The real clients of the Open Inference Protocol, in an environment of their own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.service.running import wait_until

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-clients"
REQUIREMENTS = ("tritonclient[http]==2.73", "kserve==0.21")


def install() -> None:
    """Make the environment, afresh where it does not hold what is required now."""
    note = ENVIRONMENT / "requirements.json"
    if note.exists() and json.loads(note.read_text()) == list(REQUIREMENTS):
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    uv = (sys.executable, "-m", "uv", "--quiet")
    subprocess.run([*uv, "venv", "--python", sys.executable, ENVIRONMENT], check=True)
    python = ENVIRONMENT / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "--python", python, *REQUIREMENTS], check=True)
    # Written last: an install that broke off is not taken for one that is there.
    note.write_text(json.dumps(REQUIREMENTS))


def converse(script: str, address: str) -> dict[str, Any]:
    """Run a script of this folder with the clients' Python; what each of its cases came to."""
    done = subprocess.run(
        [ENVIRONMENT / "bin" / "python", Path(__file__).with_name(script), address],
        check=True,
        stdout=subprocess.PIPE,
        timeout=300,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def served(data: Path) -> Iterator[str]:
    """`python -m service` over a data folder; yields its address."""
    settings = {
        "data": data,
        "port": 0,
        "deadline-ms": 1000,
        "disk-free-share": 0,
        "drain-notice-seconds": 0,
        "reload-seconds": 0.1,
    }
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "service", "--log-json", *flags]
    log = data / "service.log"
    with log.open("wb") as said, subprocess.Popen(command, cwd=ROOT, stderr=said) as process:
        try:

            def is_ready() -> bool:
                assert process.poll() is None, log.read_text()
                return '"event": "ready"' in log.read_text()

            wait_until(is_ready, "the service is ready")
            events = [json.loads(line) for line in log.read_text().splitlines()]
            (url,) = [each["url"] for each in events if each["event"] == "serving"]
            yield url.removeprefix("http://")
        finally:
            process.terminate()
            process.wait(timeout=60)
    assert process.returncode == 0, log.read_text()
