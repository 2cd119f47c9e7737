"""The process that reads files which nobody vouches for: bytes in, plain values out.

It opens no file and writes none, has little memory and little time, and runs nothing that it reads:
weights are unpickled by PyTorch's restricted reader, everything else is JSON or protobuf.
"""

import resource
import sys
from typing import Final

import msgspec

from exporter.adoption.source import AdoptionError, Kind, Source

MAX_SOURCE_BYTES: Final = 512 * 1024**2

_MEMORY_BYTES: Final = 8 * 1024**3
_CPU_SECONDS: Final = 120


class Question(msgspec.Struct, frozen=True):
    """What the parent asks."""

    content: bytes
    kind: Kind | None
    """None: tell from the content."""
    q_output: str | None


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """Why there is no source."""

    reason: str


def read_content(question: Question) -> Source:
    """Read a source with whichever reader fits.

    Raises:
        AdoptionError: Nothing fits, or what fits refuses.
    """
    kind = question.kind or _tell_kind(question.content)
    # Each reader imports a large library; the other one's is not needed.
    if kind == "onnx":
        from exporter.adoption.onnx_source import read_onnx

        return read_onnx(question.content, question.q_output)
    if kind == "cleanrl":
        from exporter.adoption.cleanrl import read_cleanrl

        return read_cleanrl(question.content)
    from exporter.adoption.stable_baselines3 import read_stable_baselines3

    return read_stable_baselines3(question.content)


def _tell_kind(content: bytes) -> Kind:
    from exporter.adoption.archive import member_names

    if not content.startswith(b"PK"):
        if content.startswith(b"\x80"):
            raise AdoptionError(
                "this is a bare pickle, which can run any code: save the network's state_dict with "
                "torch.save of PyTorch 1.6 or newer, or export it to ONNX"
            )
        return "onnx"
    names = member_names(content)
    if "policy.pth" in names and "data" in names:
        return "stable-baselines3"
    folders = {name.split("/")[1] for name in names if "/" in name}
    if "code" in folders:
        raise AdoptionError(
            "this is TorchScript, which PyTorch has deprecated and nothing here runs: export the "
            "policy to ONNX (d3rlpy: save_policy('policy.onnx'))"
        )
    if any(name.endswith("data.pkl") for name in names):
        return "cleanrl"
    raise AdoptionError(f"a zip of {names[:5]}: no library that is known here saves such a one")


def _confine() -> None:
    """Take from this process what reading bytes does not need; children of it lack it too."""
    for what, limit in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))


def main() -> int:
    """Answer the one question on stdin; always 0 where it was answered, were it with a refusal."""
    _confine()
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Question)
    answer: Source | Refusal
    try:
        answer = read_content(question)
    except AdoptionError as error:
        answer = Refusal(str(error))
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
