"""What the guardrails of one worker do: how soon they fire, and how often they should not have."""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from benchmarks.report import Figure
from service.rollout.guardrails import ALPHA, TOLERANCES, Guardrails, Rows

_GOOD_ROWS: Final = (0, 300, 5000, 50_000)
_BATCH_ROWS: Final = 8
_CANARY_ROWS: Final = 20_000
"""Of a null rollout, in one worker; stable has as many."""
_STABLE_RATE: Final = 0.001
_INDEPENDENT: Final = ("nonfinite", "q_bound")
"""Ways in which each row fails for itself."""


def rows_of_nan() -> Iterator[Figure]:
    """Rows that a canary of nothing but NaN answers, from the start or after many good rows."""
    for good in _GOOD_ROWS:
        guardrails = Guardrails("r")
        guardrails.observe_stable(Rows(1000))
        for _ in range(good // 100):
            guardrails.observe_stable(Rows(100))
            guardrails.observe_canary(Rows(100))
        rows = 1
        while guardrails.observe_canary(Rows(1, fallback=1, nonfinite=1)) is None:
            rows += 1
        figure = f"rows of NaN, after {good:,} good ones, until a worker takes the canary off"
        yield Figure.at_most(figure, rows, "rows", 5)


def false_alarms(rollouts: int) -> Iterator[Figure]:
    """Share of rollouts in which a canary within its tolerance is taken off."""
    kinds = {
        "a canary that fails as often as stable, 1 row in 1,000 in each way": dict.fromkeys(
            _INDEPENDENT, _STABLE_RATE
        ),
        "a canary at the very edge of its tolerances": {
            name: _STABLE_RATE + TOLERANCES[name] for name in _INDEPENDENT
        },
    }
    for place, (kind, rates) in enumerate(kinds.items()):
        generators = (np.random.default_rng((500 + place, each)) for each in range(rollouts))
        wrong = sum(_has_fired(rates, generator) for generator in generators)
        figure = (
            f"guardrails that fire in {rollouts} null rollouts of {_CANARY_ROWS:,} rows, {kind}"
        )
        yield Figure.at_most(figure, wrong / rollouts, "share", len(_INDEPENDENT) * ALPHA)


def _has_fired(rates: Mapping[str, float], generator: np.random.Generator) -> bool:
    guardrails = Guardrails("r")
    for _ in range(_CANARY_ROWS // _BATCH_ROWS):
        stable = {name: int(generator.binomial(_BATCH_ROWS, _STABLE_RATE)) for name in rates}
        guardrails.observe_stable(_rows(stable))
        canary = {name: int(generator.binomial(_BATCH_ROWS, rate)) for name, rate in rates.items()}
        if guardrails.observe_canary(_rows(canary)) is not None:
            return True
    return False


def _rows(failed: Mapping[str, int]) -> Rows:
    return Rows(_BATCH_ROWS, **failed)
