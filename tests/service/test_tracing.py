"""Spans of decisions, as a real receiver of OTLP over HTTP gets them."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from service.settings import ServiceSettings
from tests import builders
from tests.service.running import promote, running, settings_for

RIGHT = [0.0, 0.0, 0.1, 0.0]
TRACE, AGENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Receiver:
    """Takes `POST /v1/traces` and keeps what it says."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.attributes: dict[bytes, dict[str, Any]] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    content = gzip.decompress(content)
                receiver.take(ExportTraceServiceRequest.FromString(content))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    thread = threading.Thread(target=started.server.serve_forever)
    thread.start()
    yield started
    started.server.shutdown()
    thread.join()
    started.server.server_close()


@contextmanager
def traced(data: Path, receiver: Receiver, **changes: Any) -> Iterator[Any]:
    """A service that has sent all its spans once the block ends."""
    builders.write_policy(data / "policies")
    promote(data)
    settings = settings_for(data, trace_endpoint=receiver.url, **changes)
    with running(settings) as service:
        yield service


def attributes(span: Span) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, str(each.value.WhichOneof("value")))
        for each in span.attributes
    }


def test_a_decision_is_part_of_the_trace_that_its_request_names(
    tmp_path: Path, receiver: Receiver
) -> None:
    with traced(tmp_path, receiver, trace_share=0.0) as service:
        for flags in ("01", "00"):
            header = {"traceparent": f"00-{TRACE}-{AGENT}-{flags}"}
            body = {"observations": [RIGHT, RIGHT], "decision_id": f"asked-{flags}"}
            for client in (service.client, service.plain):
                assert client.post("/v1/actions", json=body, headers=header).is_success
        service.act([RIGHT], decision_id="unasked")
    roots = receiver.named("decide cartpole")
    # By the lane and by the route; neither the one that was not sampled nor the one without.
    assert [attributes(root)["dqn.decision_id"] for root in roots] == ["asked-01", "asked-01"]
    root = roots[0]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, AGENT)
    told = attributes(root)
    assert (told["dqn.rows"], told["dqn.version"], told["dqn.source"]) == (2, 1, "model")
    assert "dqn.reason" not in told
    inside = [span for span in receiver.spans if span.parent_span_id == root.span_id]
    assert sorted(span.name for span in inside) == ["model", "queue"]
    times = [
        (span.start_time_unix_nano, span.end_time_unix_nano)
        for span in (root, *sorted(inside, key=lambda span: span.name, reverse=True))
    ]
    (began, ended), queue, model = times
    assert abs(began - queue[0]) < 1_000
    assert queue[1] == model[0]
    assert began <= model[0] <= model[1] <= ended + 1_000_000


def test_requests_that_name_no_trace_begin_one_by_chance(
    tmp_path: Path, receiver: Receiver
) -> None:
    with traced(tmp_path, receiver, trace_share=1.0) as service:
        service.act([RIGHT], decision_id="plain")
        odd = {"traceparent": f"00-{'0' * 32}-{AGENT}-01"}
        service.client.post("/v1/actions", json={"observations": [RIGHT]}, headers=odd)
        body = {"step": 0, "observation": RIGHT}
        assert service.client.post("/v1/episodes/e/steps", json=body).is_success
    roots = receiver.named("decide cartpole")
    assert len(roots) == 3
    assert all(root.parent_span_id == b"" for root in roots)
    assert len({root.trace_id for root in roots}) == 3


def test_what_a_heuristic_answered_says_why_and_names_no_call(
    tmp_path: Path, receiver: Receiver
) -> None:
    with traced(tmp_path, receiver, trace_share=1.0) as service:
        assert service.client.post("/v1/policies/cartpole/pin", json={"why": "x"}).is_success
        service.act([RIGHT])
    (root,) = receiver.named("decide cartpole")
    assert attributes(root)["dqn.reason"] == "pinned"
    assert receiver.named("model") == []


def test_a_receiver_that_is_away_stops_no_answer(tmp_path: Path, receiver: Receiver) -> None:
    receiver.url = "http://127.0.0.1:1/v1/traces"
    with traced(tmp_path, receiver, trace_share=1.0) as service:
        assert service.act([RIGHT]).json()["answered_by"][0]["source"] == "model"


def test_nothing_that_traces_is_loaded_unless_a_service_traces() -> None:
    code = "import sys, service.__main__, service.worker; "
    # Redis's client takes what it finds of the SDK's metrics.
    code += "print([name for name in sys.modules if 'sdk.trace' in name or 'otlp' in name])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_without_the_extra_tracing_is_refused_with_its_name() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from service.settings import ServiceSettings\n"
        "ServiceSettings(trace_endpoint='http://localhost:4318/v1/traces')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "dqn-serving[tracing]" in done.stderr
    assert ServiceSettings(trace_endpoint="http://localhost:4318/v1/traces").trace_share == 0.01
