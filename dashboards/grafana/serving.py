"""Who answers, how fast, and how full the service is."""

from dashboards.grafana.panels import Panel, Query, Step, graph


def serving() -> list[Panel]:
    """The row on decisions."""
    return [
        graph(
            "Decisions by source",
            "ops",
            "Who chose the actions. Where the heuristic's part grows, see the next panel.",
            [
                Query(
                    """
                    sum by (policy, source) (
                      rate(dqn_decisions_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}} {{source}}",
                )
            ],
            is_stacked=True,
        ),
        graph(
            "Heuristic decisions by reason",
            "ops",
            "Why the model did not answer. The runbook's HeuristicShareHigh says what to do.",
            [
                Query(
                    """
                    sum by (policy, reason) (rate(
                      dqn_decisions_total{policy=~"$policy", source="heuristic"}[$__rate_interval]
                    ))
                    """,
                    "{{policy}} {{reason}}",
                )
            ],
            is_stacked=True,
        ),
        graph(
            "Answer times",
            "s",
            "From the body's last byte to the answer at the socket. Above the line: DecisionsLate.",
            [
                Query(
                    """
                    histogram_quantile(0.5, sum by (policy, le) (
                      rate(dqn_decision_seconds_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} p50",
                ),
                Query(
                    """
                    histogram_quantile(0.99, sum by (policy, le) (
                      rate(dqn_decision_seconds_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} p99",
                ),
            ],
            limits=(Step(0.010, "red"),),
        ),
        graph(
            "Where the time goes",
            "s",
            "The slowest 1 % of each part. A long call: a slow model or a busy machine. A long "
            "queue: more traffic than a worker takes. Neither: large requests, or a slow disk.",
            [
                Query(
                    """
                    histogram_quantile(0.99, sum by (policy, le) (
                      rate(dqn_queue_seconds_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} queue",
                ),
                Query(
                    """
                    histogram_quantile(0.99, sum by (policy, le) (
                      rate(dqn_inference_seconds_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} model's call",
                ),
            ],
        ),
        graph(
            "Requests by route",
            "reqps",
            "4xx: an agent sends what it should not, and the answer says what. 5xx: read the log.",
            [
                Query(
                    "sum by (route, code) (rate(dqn_http_requests_total[$__rate_interval]))",
                    "{{route}} {{code}}",
                )
            ],
        ),
        graph(
            "Rows in a call of the model",
            "short",
            "At batch_max_rows under load: raise it while the call is short, else add a worker.",
            [
                Query(
                    """
                    histogram_quantile(0.5, sum by (policy, le) (
                      rate(dqn_batch_rows_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} p50",
                ),
                Query(
                    """
                    histogram_quantile(0.99, sum by (policy, le) (
                      rate(dqn_batch_rows_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} p99",
                ),
            ],
        ),
        graph(
            "Rows in flight",
            "short",
            "Accepted, not yet answered. Beyond queue_max_rows the heuristic answers, beyond twice "
            "that agents get 429: add workers or replicas.",
            [
                Query(
                    """sum by (policy) (dqn_in_flight_rows{policy=~"$policy"})""",
                    "{{policy}}",
                )
            ],
        ),
        graph(
            "Shed rows and missed deadlines",
            "ops",
            "Both are zero where all is well. Shed: too much traffic. Late: the event loop was "
            "held up; see 'Where the time goes'.",
            [
                Query(
                    """
                    sum by (policy) (rate(dqn_shed_total{policy=~"$policy"}[$__rate_interval]))
                    """,
                    "{{policy}} shed",
                ),
                Query(
                    """
                    sum by (policy) (
                      rate(dqn_deadline_missed_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}} late",
                ),
            ],
        ),
        graph(
            "Versions, loads and restarts",
            "short",
            "What serves since when. A failed load: /v1/policies tells the fault. A worker "
            "restarted: the log has its exit status.",
            [
                Query(
                    """
                    max by (policy, variant, version) (dqn_policy_info{policy=~"$policy"}) == 1
                    """,
                    "{{policy}} {{variant}} version {{version}}",
                ),
                Query(
                    """
                    sum by (policy, outcome) (
                      increase(dqn_policy_loads_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}} {{outcome}}",
                ),
                Query(
                    "sum(increase(dqn_worker_restarts_total[$__rate_interval]))",
                    "workers restarted",
                ),
            ],
        ),
    ]
