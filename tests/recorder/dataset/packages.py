"""Minari and d3rlpy in an environment of their own: their torch is none of ours."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
ENVIRONMENT = ROOT / ".venv-datasets"
TORCH = "torch==2.13.0"
REQUIREMENTS = ("minari==0.5.4", "d3rlpy==2.8.0", "pillow>=11", "pyarrow>=20")


def install() -> None:
    """Make the environment, afresh where it does not hold what is required now."""
    note = ENVIRONMENT / "requirements.json"
    wanted = [TORCH, *REQUIREMENTS]
    if note.exists() and json.loads(note.read_text()) == wanted:
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    uv = (sys.executable, "-m", "uv", "--quiet")
    subprocess.run([*uv, "venv", "--seed", "--python", sys.executable, ENVIRONMENT], check=True)
    python = ENVIRONMENT / "bin" / "python"
    # By pip, which finds the CPU's build where one is set up; uv then keeps it.
    subprocess.run([python, "-m", "pip", "install", "--quiet", TORCH], check=True)
    subprocess.run([*uv, "pip", "install", "--python", python, *REQUIREMENTS], check=True)
    # Written last: an install that broke off is not taken for one that is there.
    note.write_text(json.dumps(wanted))


def read_back(minari_root: Path, dataset_id: str, *tables: Path) -> dict[str, Any]:
    """What the packages find in what was exported."""
    done = subprocess.run(
        [
            ENVIRONMENT / "bin" / "python",
            Path(__file__).with_name("reading_packages.py"),
            minari_root,
            dataset_id,
            *tables,
        ],
        check=True,
        stdout=subprocess.PIPE,
        timeout=600,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
