"""What others see: the port, the server behind it, and Prometheus."""

import socket
from collections.abc import Iterator
from typing import Any, Final

import httpx

from cli.diagnosis.finding import Finding, fault, ok, warning

_TIMEOUT_SECONDS: Final = 3.0


def check_port(host: str, port: int, probed: tuple[str, int]) -> Finding:
    """Whether the port is free, or ours already.

    Args:
        host: To listen on.
        port: Likewise.
        probed: Host and port at which a server with these settings answers probes.
    """
    check = f"port {port}"
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family):
            return ok(check, "free")
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
    reached = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(probed[0], probed[0])
    url = httpx.URL(scheme="http", host=reached, port=probed[1], path="/readyz")
    try:
        answer = httpx.get(url, timeout=_TIMEOUT_SECONDS).json()
        is_ready, why = bool(answer["ready"]), answer["why"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return fault(
            check,
            f"cannot be listened on: {reason}",
            "stop what holds it, or choose another --port",
        )
    if not is_ready or why:
        return warning(
            check,
            f"a server of ours answers; {'degraded' if is_ready else 'not ready'}: {why}",
            "its log and `dqn policies` say what is missing",
        )
    return ok(check, "a server of ours answers and is ready")


def check_prometheus(url: str) -> Iterator[Finding]:
    """Whether Prometheus scrapes a server and has the alerts."""
    try:
        with httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS) as client:
            targets = _data(client.get("/api/v1/targets"))["activeTargets"]
            groups = _data(client.get("/api/v1/rules"))["groups"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        yield fault(
            "prometheus",
            f"{url} does not answer: {str(error) or type(error).__name__}",
            "nobody is told when something breaks: look at its address and its log",
        )
        return
    ours = [each for each in targets if each["labels"].get("job") == "dqn"]
    down = [each for each in ours if each["health"] != "up"]
    if not ours:
        yield fault("prometheus", "no target of job dqn", "add the job of dashboards/prometheus")
    elif down:
        told = f"{len(down)} of {len(ours)} targets are not up: {down[0].get('lastError', '')}"
        yield fault("prometheus", told, "look at the key, the network policy and the port")
    else:
        yield ok("prometheus", f"{len(ours)} targets up")
    alerts = {rule["name"] for group in groups for rule in group["rules"] if "alerts" in rule}
    if "Watchdog" not in alerts:
        yield fault(
            "alerts", f"{len(alerts)}, no Watchdog", "load dashboards/prometheus/rules/dqn.yml"
        )
    else:
        yield ok("alerts", f"{len(alerts)} loaded")


def _data(response: httpx.Response) -> Any:
    response.raise_for_status()
    return response.json()["data"]
