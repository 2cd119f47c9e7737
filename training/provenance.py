"""Where a run took place: versions, revision."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("torch", "numpy", "gymnasium", "safetensors")


def package_versions() -> dict[str, str]:
    """Versions of what a run's numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def git_revision() -> str | None:
    """The commit of the source this runs from, `-dirty` if changed; `None` outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            check=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
