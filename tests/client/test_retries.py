"""When a call is made again: decided without a connection, under a clock of the test's own."""

import random

import pytest

from dqn_client.messages import ClientError, actions_call, change_call, get_call
from dqn_client.retries import (
    Attempts,
    Failure,
    Response,
    RetryBudget,
    RetryPolicy,
    Send,
    Sleep,
    attempts,
    parse_retry_after,
)

BUSY = Response(503, b'{"error": "draining", "code": "not_ready"}', None)
FINE = Response(200, b"yes", None)
LOST = Failure("closed", was_sent=True)
REFUSED = Failure("connection refused", was_sent=False)
GET = get_call("/v1/policies")
PROMOTE = change_call("cartpole", "promote", {"why": "to serve"})


class Clock:
    """Goes on by what is slept."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def drive(
    calls: Attempts, clock: Clock, *answers: Response | Failure
) -> tuple[bytes | ClientError, list[Send], list[float]]:
    """Answer one send after another: what it came to, what was sent, how long was slept."""
    waiting = list(answers)
    sent: list[Send] = []
    slept: list[float] = []
    came: Response | Failure | None = None
    try:
        while True:
            todo = calls.send(came)
            if isinstance(todo, Sleep):
                clock.now += todo.seconds
                slept.append(todo.seconds)
                came = None
            else:
                sent.append(todo)
                came = waiting.pop(0)
    except StopIteration as done:
        return done.value, sent, slept
    except ClientError as error:
        return error, sent, slept


def run(
    *answers: Response | Failure,
    call: object = GET,
    patience: float = 5.0,
    budget: RetryBudget | None = None,
    policy: RetryPolicy = RetryPolicy(attempts=3, first_pause_seconds=1.0),  # noqa: B008
) -> tuple[bytes | ClientError, list[Send], list[float]]:
    clock = Clock()
    calls = attempts(
        call,  # type: ignore[arg-type]
        policy,
        budget or RetryBudget(),
        patience,
        clock,
        random.Random(3),
    )
    return drive(calls, clock, *answers)


def test_what_succeeds_is_sent_once() -> None:
    result, sent, slept = run(FINE)
    assert result == b"yes"
    assert len(sent) == 1
    assert slept == []


@pytest.mark.parametrize("first", [BUSY, LOST, REFUSED, BUSY._replace(status=429)])
def test_what_fails_for_now_is_sent_again(first: Response | Failure) -> None:
    result, sent, slept = run(first, FINE)
    assert result == b"yes"
    assert len(sent) == 2
    assert len(slept) == 1


def test_a_refusal_for_good_is_not_sent_again() -> None:
    refused = Response(422, b'{"error": "a NaN", "code": "invalid_observation"}', None)
    result, sent, _ = run(refused, FINE)
    assert isinstance(result, ClientError)
    assert (result.status, result.code, str(result)) == (422, "invalid_observation", "a NaN")
    assert not result.is_transient
    assert len(sent) == 1


def test_an_operator_s_call_that_may_have_been_done_is_not_sent_again() -> None:
    result, sent, _ = run(LOST, FINE, call=PROMOTE)
    assert isinstance(result, ClientError)
    assert len(sent) == 1


def test_an_operator_s_call_that_never_left_is_sent_again() -> None:
    result, _, _ = run(REFUSED, FINE, call=PROMOTE)
    assert result == b"yes"


def test_after_the_last_attempt_the_caller_hears_why() -> None:
    result, sent, _ = run(LOST, LOST, BUSY)
    assert isinstance(result, ClientError)
    assert result.code == "not_ready"
    assert result.is_transient
    assert len(sent) == 3


def test_a_server_that_says_when_is_not_asked_sooner() -> None:
    _, _, slept = run(BUSY._replace(retry_after_seconds=2.0), FINE)
    assert slept == [2.0]


def test_pauses_grow_and_are_drawn_anew() -> None:
    policy = RetryPolicy(first_pause_seconds=1.0, longest_pause_seconds=4.0)
    rng = random.Random(5)
    drawn = [[policy.pause_seconds(attempt, rng) for _ in range(200)] for attempt in (2, 3, 4, 9)]
    for pauses, longest in zip(drawn, (1.0, 2.0, 4.0, 4.0), strict=True):
        assert max(pauses) <= longest
        assert max(pauses) > 0.9 * longest
        assert min(pauses) < 0.1 * longest


def test_nothing_is_waited_for_beyond_the_caller_s_patience() -> None:
    result, sent, slept = run(BUSY._replace(retry_after_seconds=5.0), FINE, patience=5.0)
    assert isinstance(result, ClientError)
    assert slept == []
    assert len(sent) == 1


def test_each_attempt_has_what_is_left_of_the_patience() -> None:
    _, sent, slept = run(BUSY._replace(retry_after_seconds=2.0), FINE, patience=5.0)
    assert [send.timeout_seconds for send in sent] == [5.0, 3.0]
    assert slept == [2.0]


def test_a_failing_server_is_asked_a_tenth_more_often_and_no_more() -> None:
    budget = RetryBudget(per_call=0.1, most=10.0)
    sends = sum(len(run(LOST, LOST, LOST, budget=budget)[1]) for _ in range(500))
    # 500 calls, 10 retries saved up at first and one for each ten calls.
    assert 500 + 10 + 40 <= sends <= 500 + 10 + 50


def test_the_server_is_told_most_of_the_patience_that_is_left() -> None:
    call = actions_call([[0.0]], "id", is_timed=True)
    _, sent, _ = run(
        BUSY._replace(retry_after_seconds=0.5), FINE, call=call, patience=1.0,
        policy=RetryPolicy(first_pause_seconds=0.0),
    )  # fmt: skip
    assert b'"deadline_ms":800.0' in (sent[0].content or b"")
    assert b'"deadline_ms":400.0' in (sent[1].content or b"")


@pytest.mark.parametrize(
    ("deadline_ms", "told"), [(None, b"800.0"), (20.0, b"20.0"), (5000.0, b"800.0")]
)
def test_a_deadline_of_the_caller_s_own_holds_where_it_is_shorter(
    deadline_ms: float | None, told: bytes
) -> None:
    call = actions_call([[0.0]], "id", is_timed=True, deadline_ms=deadline_ms)
    assert b'"deadline_ms":' + told in (call.content(1.0) or b"")


def test_without_patience_the_server_has_its_own_deadline() -> None:
    call = actions_call([[0.0]], "id", is_timed=False)
    assert b"deadline_ms" not in (call.content(1.0) or b"")


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), (None, None), ("Wed, 21 Oct 2015 07:28:00 GMT", None)]
)
def test_the_retry_after_header_is_read_where_it_is_seconds(
    value: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(value) == seconds
