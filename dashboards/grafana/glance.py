"""Six numbers that say whether to read on."""

from typing import Final

from dashboards.grafana.panels import Panel, Step, single

_SHARE: Final = (Step(None, "red"), Step(0.95, "orange"), Step(0.99, "green"))


def glance() -> list[Panel]:
    """The top row."""
    return [
        single(
            "Actions from the model",
            "percentunit",
            "Below 99 %: see 'Heuristic decisions by reason', then the runbook's table of reasons.",
            """
            sum(rate(dqn_decisions_total{policy=~"$policy", source="model"}[$__rate_interval]))
            / sum(rate(dqn_decisions_total{policy=~"$policy"}[$__rate_interval]))
            """,
            _SHARE,
        ),
        single(
            "Answered within 10 ms",
            "percentunit",
            "Below 99 %: see 'Where the time goes', then DecisionsLate in the runbook.",
            """
            sum(rate(dqn_decision_seconds_bucket{policy=~"$policy", le="0.01"}[$__rate_interval]))
            / sum(rate(dqn_decision_seconds_count{policy=~"$policy"}[$__rate_interval]))
            """,
            _SHARE,
        ),
        single(
            "Decisions",
            "ops",
            "Actions given. A fall to nothing: see 'Requests by route', then ask the agents.",
            """sum(rate(dqn_decisions_total{policy=~"$policy"}[$__rate_interval]))""",
        ),
        single(
            "Slowest 1 % of answers",
            "s",
            "The 99th percentile. Beyond 10 ms: see 'Where the time goes'.",
            """
            histogram_quantile(0.99, sum by (le) (
              rate(dqn_decision_seconds_bucket{policy=~"$policy"}[$__rate_interval])
            ))
            """,
            (Step(None, "green"), Step(0.010, "red")),
        ),
        single(
            "Largest |Q| over training's",
            "suffix: x",
            "Since the worker started. Beyond 10: roll back; QValuesBeyondTraining in the runbook.",
            """
            max(
              dqn_q_value_max{policy=~"$policy"} / (dqn_q_value_training_max{policy=~"$policy"} > 0)
            )
            """,
            (Step(None, "green"), Step(2, "orange"), Step(10, "red")),
        ),
        single(
            "Degraded policies",
            "short",
            "Not served by the version that their ledger asks for: /readyz says why.",
            """sum(max by (policy) (dqn_policy_degraded{policy=~"$policy"}))""",
            (Step(None, "green"), Step(1, "orange")),
        ),
    ]
