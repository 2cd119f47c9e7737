"""What Prometheus and Alertmanager know of the last hours, as `dqn status` asks it."""

import math
from typing import Any, Final, NamedTuple

import httpx

_TIMEOUT_SECONDS: Final = 5.0
_LEAST_STEP_SECONDS: Final = 15.0
_MOST_POINTS: Final = 10_000
_GAP_STEPS: Final = 2.5
"""A series that is away for longer was resolved, and what comes then is another time."""


class UnreachableError(Exception):
    """It does not answer, or not as it should."""


class Span(NamedTuple):
    """A time in which something held."""

    labels: dict[str, str]
    began_at: float
    """Unix seconds."""
    ended_at: float | None
    """None: it still holds."""


class Sample(NamedTuple):
    """A gauge at one time."""

    at: float
    value: float


def fired(url: str, since: float, now: float) -> list[Span]:
    """When which alert fired, the Watchdog left out.

    Raises:
        UnreachableError: Prometheus does not answer.
    """
    series = _query_range(url, 'ALERTS{alertstate="firing",alertname!="Watchdog"}', since, now)
    return _spans(series, now, _step(since, now))


def unscraped(url: str, since: float, now: float) -> list[Span]:
    """When which process could not be scraped."""
    return _spans(_query_range(url, 'up{job=~"dqn.*"} == 0', since, now), now, _step(since, now))


def join_ratios(url: str, since: float, now: float) -> dict[str, list[Sample]]:
    """Policy to the share of its decisions that got an outcome, over time."""
    series = _query_range(url, "min by (policy) (dqn_join_ratio)", since, now)
    return {
        labels["policy"]: [Sample(at, value) for at, value in points]
        for labels, points in series
        if "policy" in labels
    }


def runbooks(url: str) -> dict[str, str]:
    """Alert to where its runbook is."""
    groups = _get(url, "/api/v1/rules", {"type": "alert"})["groups"]
    return {
        rule["name"]: rule["annotations"]["runbook_url"]
        for group in groups
        for rule in group["rules"]
        if "runbook_url" in rule.get("annotations", {})
    }


def silenced(url: str) -> list[dict[str, str]]:
    """Labels of alerts that fire and that nobody is told of, from Alertmanager.

    Raises:
        UnreachableError: Alertmanager does not answer.
    """
    try:
        answer = httpx.get(f"{url.rstrip('/')}/api/v2/alerts", timeout=_TIMEOUT_SECONDS)
        answer.raise_for_status()
        return [each["labels"] for each in answer.json() if each["status"]["state"] != "active"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"{url}: {_reason(error)}") from error


def _query_range(
    url: str, query: str, since: float, now: float
) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
    step = _step(since, now)
    # Whole steps back from now, else what fired within the last step would not be seen.
    begin = now - math.ceil((now - since) / step) * step
    asked = {"query": query, "start": begin, "end": now, "step": step}
    return [
        (each["metric"], [(float(at), float(value)) for at, value in each["values"]])
        for each in _get(url, "/api/v1/query_range", asked)["result"]
    ]


def _get(url: str, path: str, asked: dict[str, Any]) -> Any:
    try:
        answer = httpx.get(f"{url.rstrip('/')}{path}", params=asked, timeout=_TIMEOUT_SECONDS)
        answer.raise_for_status()
        return answer.json()["data"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"{url}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _step(since: float, now: float) -> float:
    return max(_LEAST_STEP_SECONDS, (now - since) / _MOST_POINTS)


def _spans(
    series: list[tuple[dict[str, str], list[tuple[float, float]]]], now: float, step: float
) -> list[Span]:
    """Points that follow one another are one span."""
    spans = []
    for labels, points in series:
        began_at = previous = points[0][0]
        for at, _ in points[1:]:
            if at - previous > _GAP_STEPS * step:
                spans.append(Span(labels, began_at, previous))
                began_at = at
            previous = at
        is_over = now - previous > _GAP_STEPS * step
        spans.append(Span(labels, began_at, previous if is_over else None))
    return spans
