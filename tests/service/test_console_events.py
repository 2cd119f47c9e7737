"""The console's event stream, from a running service, with and without the fast lane."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import OverloadedError
from service.faces.events import Feed, encode_event
from service.keys import add_key
from service.metrics import Metrics
from service.server import Server
from tests.service.conftest import declare
from tests.service.running import Running, running, settings_for, wait_until

LEFT = [0.0, 0.0, -0.1, 0.0]


def parsed(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Events as (kind, data)."""
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


@pytest.mark.parametrize("has_lane", [True, False])
def test_what_was_decided_meanwhile_is_in_the_next_event(service: Running, has_lane: bool) -> None:
    client = service.client if has_lane else service.plain
    with client.stream("GET", "/v1/events") as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        told = parsed(response.iter_lines())
        kind, first = next(told)
        assert kind == "snapshot"
        assert first["policies"]["cartpole"]["stable"] == 1
        assert service.act([LEFT] * 7).status_code == 200
        seen = next(
            data["policies"]["cartpole"]
            for _, data in told
            if data["policies"]["cartpole"]["decisions_per_second"]
        )
    assert seen["model_share"] == 1.0
    assert seen["reasons"] == {}
    assert seen["q_training_max"] == 20.0
    assert seen["q_bound"] == 100.0
    assert (seen["training_return"], seen["floor"]) == (200.0, 9.5)
    assert 0 < seen["p50_seconds"] <= seen["p99_seconds"]


def test_a_listener_who_leaves_is_forgotten(service: Running) -> None:
    with service.client.stream("GET", "/v1/events") as response:
        lines = response.iter_lines()
        assert next(lines) == "event: snapshot"
        feed = service.app.state.feed
        assert feed.listeners > 0
    wait_until(lambda: feed.listeners == 0, "nobody listens")


def test_a_key_that_is_withdrawn_ends_the_stream(tmp_path: Path) -> None:
    keys_file = tmp_path / "keys"
    key = add_key(keys_file, "reader", ["read"])
    declare(tmp_path / "data")
    with (
        running(settings_for(tmp_path / "data", keys_file=keys_file)) as locked,
        locked.client.stream(
            "GET", "/v1/events", headers={"authorization": f"Bearer {key}"}
        ) as response,
    ):
        told = parsed(response.iter_lines())
        assert next(told)[0] == "snapshot"
        keys_file.write_text("", encoding="utf-8")
        kind, why = next(event for event in told if event[0] != "snapshot")
        assert (kind, why["code"]) == ("ended", "unauthorized")
        assert next(told, None) is None


def test_without_a_key_nothing_is_told(tmp_path: Path) -> None:
    keys_file = tmp_path / "keys"
    actor = add_key(keys_file, "actor", ["act"])
    declare(tmp_path / "data")
    with running(settings_for(tmp_path / "data", keys_file=keys_file)) as locked:
        assert locked.client.get("/v1/events").status_code == 401
        held = {"authorization": f"Bearer {actor}"}
        assert locked.client.get("/v1/events", headers=held).status_code == 403
        for path in ("/versions/1", "/rollout/evidence"):
            assert locked.client.get(f"/v1/policies/cartpole{path}").status_code == 401


def test_many_listeners_read_the_metrics_once_a_second(tmp_path: Path) -> None:
    now = 100.0
    scrapes = []
    server = Server(settings_for(tmp_path), Metrics())
    server.metrics.before_scrape.append(lambda: scrapes.append(now))
    feed = Feed(server, lambda: now)
    assert scrapes == []
    events = {feed.latest() for _ in range(5)}
    now = 100.9
    events.add(feed.latest())
    assert (len(events), scrapes) == (1, [100.0])
    now = 101.0
    assert feed.latest() not in events
    assert scrapes == [100.0, 101.0]


def test_rates_of_a_new_listener_do_not_reach_back_to_an_earlier_one(tmp_path: Path) -> None:
    now = 100.0
    feed = Feed(Server(settings_for(tmp_path), Metrics()), lambda: now)
    feed.latest()
    now = 104.0
    assert b'"window_seconds":4.0' in feed.latest()
    now = 904.0
    assert b'"window_seconds":0.0' in feed.latest()


async def until_drained(feed: Feed, server: Server) -> list[bytes]:
    server.state = "ready"
    told = feed.listen(None)
    first = await anext(told)
    assert feed.listeners == 1
    server.state = "draining"
    return [first] + [event async for event in told]


def test_a_stream_ends_when_the_server_drains_so_that_it_can_stop(tmp_path: Path) -> None:
    server = Server(settings_for(tmp_path), Metrics())
    feed = Feed(server)
    first, last = asyncio.run(until_drained(feed, server))
    assert first.startswith(b"event: snapshot\n")
    assert last.startswith(b"event: ended\n")
    assert feed.listeners == 0


def test_no_more_than_64_listen(tmp_path: Path) -> None:
    feed = Feed(Server(settings_for(tmp_path), Metrics()))
    feed.listeners = 63
    feed.refuse_if_full()
    feed.listeners = 64
    with pytest.raises(OverloadedError):
        feed.refuse_if_full()


def test_a_number_that_is_not_finite_is_null() -> None:
    assert encode_event("snapshot", {"q": float("nan")}, 3) == (
        b'event: snapshot\nid: 3\ndata: {"q":null}\n\n'
    )
