"""`python -m benchmarks.cost.without PART FLAGS…`: the real server, less one part of it.

Nobody should serve so, and no setting of the server allows it: a promise that a switch can take
back is none. So the part is taken out here, before the server starts; workers are forked from it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from service.__main__ import main as serve
from service.experience.decisions import DecisionLog
from service.inference.measures import Measures
from service.monitoring.drift import Drift
from service.monitoring.q_health import QHealth

_MODELS: Final = ((QHealth, "observe"), (Drift, "watch"))
_SERVING: Final = (
    (Measures, "measure_call"),
    (Measures, "count_decisions"),
    (Measures, "measure_answers"),
)
PARTS: Final[Mapping[str, Sequence[tuple[type, str]]]] = {
    "nothing": (),
    "monitoring": _MODELS,
    "metrics": (*_MODELS, *_SERVING),
    "log": ((DecisionLog, "add"),),
}
"""Name to the methods that then do nothing: they are called with each batch, and return nothing."""


def main(arguments: Sequence[str]) -> int:
    """Take the part out and serve; the server's exit status."""
    part, *flags = arguments
    for owner, method in PARTS[part]:
        setattr(owner, method, _nothing_for(getattr(owner, method)))
    return serve(flags)


def _nothing_for(method: Callable[..., None]) -> Callable[..., None]:
    def nothing(*_: Any, **__: Any) -> None:
        return None

    nothing.__name__ = method.__name__
    return nothing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
