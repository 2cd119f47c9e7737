"""Asking the child process to read a source, and believing only its plain answer."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from exporter.adoption.child import MAX_SOURCE_BYTES, Question, Refusal
from exporter.adoption.source import AdoptionError, Kind, Source

_CHILD_SECONDS: Final = 180.0


def read_source(content: bytes, kind: Kind | None, q_output: str | None) -> Source:
    """Read a policy that was trained elsewhere, in a process of its own.

    Args:
        content: The file.
        kind: What saved it; None tells from the content.
        q_output: For ONNX, the tensor with the Q-values; None finds it.

    Raises:
        AdoptionError: The child refused the file, crashed on it, or took too long.
    """
    question = msgspec.msgpack.encode(Question(content, kind, q_output))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "exporter.adoption.child"],
            input=question,
            capture_output=True,
            timeout=_CHILD_SECONDS,
            # Credentials are in variables more often than not; the reader needs none of them.
            env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AdoptionError(f"the file was not read within {_CHILD_SECONDS:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AdoptionError(
            f"reading the file ended its process ({done.returncode}): "
            f"{said[-1][:300] if said else 'it said nothing'}"
        )
    answer = msgspec.msgpack.decode(done.stdout, type=Source | Refusal)
    if isinstance(answer, Refusal):
        raise AdoptionError(answer.reason)
    return answer


def read_file(path: Path) -> bytes:
    """The bytes of a file that is not too large to be a policy.

    Raises:
        AdoptionError: It is not there, or too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SOURCE_BYTES + 1)
    except OSError as error:
        raise AdoptionError(f"{path}: {error.strerror}") from error
    if len(content) > MAX_SOURCE_BYTES:
        raise AdoptionError(f"{path}: larger than {MAX_SOURCE_BYTES} bytes")
    return content
