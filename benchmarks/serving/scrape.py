"""What our service counts of itself."""

import re
from collections import defaultdict

import httpx

from benchmarks.serving.contenders import Contender

_DECISIONS = re.compile(r"^dqn_decisions_total\{(.*)\} (\S+)$", re.MULTILINE)
_SOURCE = re.compile(r'source="(\w+)"')


def decisions_by_source(contender: Contender) -> dict[str, float]:
    """Rows answered so far by `model` and by `heuristic`; empty where it is not our server."""
    if contender.key is None:
        return {}
    headers = {"Authorization": f"Bearer {contender.key}"}
    response = httpx.get(f"{contender.url}/metrics", headers=headers).raise_for_status()
    counts: dict[str, float] = defaultdict(float)
    for labels, value in _DECISIONS.findall(response.text):
        source = _SOURCE.search(labels)
        if source is not None:
            counts[source[1]] += float(value)
    return dict(counts)
