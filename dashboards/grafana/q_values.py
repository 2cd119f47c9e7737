"""How the Q-values look, beside what training met."""

from dashboards.grafana.panels import Panel, Query, graph


def q_values() -> list[Panel]:
    """The row on the model's health."""
    return [
        graph(
            "Max-Q",
            "short",
            "Largest Q-value of each observation. A climb under one version: the observations have "
            "changed. A jump: the version has.",
            [
                Query(
                    """
                    histogram_quantile(0.01, sum by (policy, variant, le) (
                      rate(dqn_q_value_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} {{variant}} p1",
                ),
                Query(
                    """
                    histogram_quantile(0.5, sum by (policy, variant, le) (
                      rate(dqn_q_value_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} {{variant}} p50",
                ),
                Query(
                    """
                    histogram_quantile(0.99, sum by (policy, variant, le) (
                      rate(dqn_q_value_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} {{variant}} p99",
                ),
            ],
        ),
        graph(
            "Largest |Q| against training",
            "short",
            "The record since the worker started. Where it crosses ten times training's, "
            "QValuesBeyondTraining pages: roll back.",
            [
                Query(
                    """max by (policy, variant) (dqn_q_value_max{policy=~"$policy"})""",
                    "{{policy}} {{variant}} served",
                ),
                Query(
                    """max by (policy, variant) (dqn_q_value_training_max{policy=~"$policy"})""",
                    "{{policy}} {{variant}} in training",
                ),
                Query(
                    """
                    10 * max by (policy, variant) (dqn_q_value_training_max{policy=~"$policy"})
                    """,
                    "{{policy}} {{variant}} ten times training",
                ),
            ],
        ),
        graph(
            "Action gap",
            "short",
            "Best minus second-best Q-value. Near zero the choice is a coin's: compare with the "
            "version before, and roll back if its gap was wider.",
            [
                Query(
                    """
                    histogram_quantile(0.1, sum by (policy, variant, le) (
                      rate(dqn_action_gap_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} {{variant}} p10",
                ),
                Query(
                    """
                    histogram_quantile(0.5, sum by (policy, variant, le) (
                      rate(dqn_action_gap_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}} {{variant}} p50",
                ),
            ],
        ),
        graph(
            "Actions chosen",
            "percentunit",
            "The model's choices. One action that takes over marks a collapsed policy or a dead "
            "sensor: try an observation by hand.",
            [
                Query(
                    """
                    sum by (policy, variant, action) (
                      rate(dqn_actions_total{policy=~"$policy"}[$__rate_interval])
                    )
                    / on (policy, variant) group_left
                    sum by (policy, variant) (
                      rate(dqn_actions_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}} {{variant}} action {{action}}",
                )
            ],
            is_stacked=True,
        ),
        graph(
            "Rows with NaN or Inf",
            "ops",
            "Zero where all is well; else broken weights or an overflow: roll back, then "
            "QValuesNonFinite in the runbook.",
            [
                Query(
                    """
                    sum by (policy, variant) (
                      rate(dqn_q_nonfinite_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}} {{variant}}",
                )
            ],
        ),
        graph(
            "Action entropy",
            "percentunit",
            "0: one action is all that is chosen; 1: all are chosen as often. A fall marks a "
            "collapsed policy or a dead sensor: see 'Actions chosen', then try an observation.",
            [
                Query(
                    """
                    max by (policy, variant) (
                      policy_variant:dqn_action_entropy:ratio_rate5m{policy=~"$policy"}
                    )
                    """,
                    "{{policy}} {{variant}}",
                )
            ],
        ),
        graph(
            "Beyond the Q bound",
            "percentunit",
            "Of the rows that the model answered: the heuristic answers these. More than 0.4 % "
            "takes a canary off; of a stable version: roll back.",
            [
                Query(
                    """
                    max by (policy, variant) (
                      policy_variant:dqn_q_beyond_bound:ratio_rate5m{policy=~"$policy"}
                    )
                    """,
                    "{{policy}} {{variant}}",
                )
            ],
        ),
    ]
