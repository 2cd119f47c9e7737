"""The rivals: what each is installed from, started with, and asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from benchmarks.serving.rivals.wire import (
    Wire,
    base64_in_json,
    json_rows,
    open_inference_base64,
    open_inference_binary,
    open_inference_json,
    raw_bytes,
    read_actions,
    read_first_output,
    read_list,
)

_SERVERS = "benchmarks.serving.rivals"


@dataclass(frozen=True)
class Rival:
    """Another server."""

    name: str
    title: str
    """As its users know it, with the version that is measured."""
    packages: tuple[str, ...]
    """Pinned; numpy and our own release of ONNX Runtime come on top."""
    command: tuple[str, ...]
    """A program of its environment and arguments; `{port}` is replaced."""
    wires: Mapping[str, Wire]
    """Model to its fastest body."""
    python: str | None = None
    """Which interpreter, as uv asks for one; ours where nothing is said."""

    @property
    def requirements(self) -> tuple[str, ...]:
        """Everything that its environment is made from."""
        return (*self.packages, "numpy", f"onnxruntime=={version('onnxruntime')}")


RIVALS: tuple[Rival, ...] = (
    Rival(
        "mosec",
        "mosec 0.9.8",
        ("mosec==0.9.8", "msgspec==0.22.0"),
        (
            *("python", "-m", f"{_SERVERS}.mosec_server"),
            *("--address", "127.0.0.1", "--port", "{port}", "--log-level", "warning"),
        ),
        {
            "mlp": Wire(json_rows("/decide", "observations"), read_actions),
            "cnn": Wire(raw_bytes("/decide"), read_actions),
        },
    ),
    Rival(
        "litserve",
        "LitServe 0.2.19",
        ("litserve==0.2.19",),
        ("python", "-m", f"{_SERVERS}.litserve_server"),
        {
            "mlp": Wire(json_rows("/decide", "observations"), read_actions),
            "cnn": Wire(base64_in_json("/decide", "frames", as_list=False), read_actions),
        },
    ),
    Rival(
        "bentoml",
        "BentoML 1.4.39",
        ("bentoml==1.4.39",),
        (
            *("bentoml", "serve", f"{_SERVERS}.bentoml_server:Policy"),
            *("--host", "127.0.0.1", "--port", "{port}"),
        ),
        {
            "mlp": Wire(json_rows("/decide", "observations"), read_list),
            "cnn": Wire(base64_in_json("/decide_frames", "frames", as_list=True), read_list),
        },
    ),
    Rival(
        "mlserver",
        "MLServer 1.7.1",
        ("mlserver==1.7.1",),
        ("python", "-m", f"{_SERVERS}.mlserver_server"),
        {
            "mlp": Wire(open_inference_json("/v2/models/policy/infer"), read_first_output),
            "cnn": Wire(open_inference_base64("/v2/models/policy/infer"), read_first_output),
        },
    ),
    Rival(
        "kserve",
        "KServe 0.21.0",
        ("kserve==0.21.0",),
        ("python", "-m", f"{_SERVERS}.kserve_server"),
        {
            "mlp": Wire(json_rows("/v1/models/policy:predict", "instances"), read_actions),
            "cnn": Wire(
                base64_in_json("/v1/models/policy:predict", "instances", as_list=True), read_actions
            ),
        },
    ),
    Rival(
        "ray",
        "Ray Serve 2.60.0",
        ("ray[serve]==2.60.0",),
        ("python", "-m", f"{_SERVERS}.ray_server"),
        {
            "mlp": Wire(json_rows("/decide", "observations"), read_actions),
            "cnn": Wire(raw_bytes("/decide"), read_actions),
        },
    ),
    Rival(
        "triton",
        "Triton (pytriton 0.7.0)",
        ("nvidia-pytriton==0.7.0",),
        ("python", "-m", f"{_SERVERS}.pytriton_server"),
        {
            "mlp": Wire(open_inference_binary("/v2/models/policy/infer"), read_first_output),
            "cnn": Wire(open_inference_binary("/v2/models/policy/infer"), read_first_output),
        },
        # Its stub loads Debian's libpython, 3.11.2, which dies of a newer standard library.
        python=">=3.11,<3.11.7",
    ),
)
