"""Other people's training libraries, in an environment of their own."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
ENVIRONMENT: Final = ROOT / ".bench" / "training-libraries"
REQUIREMENTS: Final = ("stable-baselines3==2.9.2", "d3rlpy==2.8.1", "onnx", "onnxscript")


def install() -> None:
    """Make the environment, afresh where it does not hold what is required now."""
    torch = f"torch=={version('torch').partition('+')[0]}"
    wanted = [torch, *REQUIREMENTS]
    note = ENVIRONMENT / "requirements.json"
    if note.exists() and json.loads(note.read_text()) == wanted:
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    uv = (sys.executable, "-m", "uv", "--quiet")
    subprocess.run([*uv, "venv", "--seed", "--python", sys.executable, ENVIRONMENT], check=True)
    python = ENVIRONMENT / "bin" / "python"
    # By pip and first: it finds the CPU build where one is set up, which uv does not.
    subprocess.run([python, "-m", "pip", "install", "--quiet", torch], check=True)
    subprocess.run([*uv, "pip", "install", "--python", python, *REQUIREMENTS], check=True)
    # Written last: an install that broke off is not taken for one that is there.
    note.write_text(json.dumps(wanted))


def train(folder: Path) -> None:
    """Let the libraries train their small policies into a folder."""
    subprocess.run(
        [
            ENVIRONMENT / "bin" / "python",
            Path(__file__).with_name("train_with_libraries.py"),
            folder,
        ],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        timeout=600,
    )
