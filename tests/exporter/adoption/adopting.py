"""One adoption, and asking what came of it."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.bundle import read_bundle
from contract.manifest import Manifest
from exporter.adopt import adopt_source
from exporter.adoption.child import Question, read_content
from exporter.adoption.config import AdoptConfig
from service.inference.policy import Policy
from service.inference.proof import prove

POLICY = "adopted"
SOURCE_SHA256 = "5" * 64


def adopt_file(source: Path, **flags: Any) -> Path:
    """Adopt next to the file, which is read here rather than in a child process: that is quicker.

    The heuristic answers 2, which a mistake hardly does.
    """
    given = {"heuristic": "constant:2"} | flags
    config = AdoptConfig(
        source=source, repository=source.parent / "policies", policy=POLICY, **given
    )
    question = Question(source.read_bytes(), config.kind, config.q_output)
    return adopt_source(config, read_content(question), SOURCE_SHA256)


def served(directory: Path) -> Policy:
    """What a server would load."""
    return prove(read_bundle(directory))


def served_q_values(directory: Path, observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return served(directory).decide(observations).q_values


def manifest_of(directory: Path) -> Manifest:
    return read_bundle(directory).manifest
