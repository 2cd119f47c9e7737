"""The canary: its share, its evidence with the thresholds drawn, what shadow traffic says."""

from grafana_foundation_sdk.builders import dashboard

from dashboards.grafana.boards import board
from dashboards.grafana.panels import Panel, Query, graph


def canary() -> dashboard.Dashboard:
    """The dashboard of a rollout."""
    return board(
        "DQN canary",
        "dqn-canary",
        "How far a rollout is, what its episodes have shown, and what would decide it.",
        {"Rollout": _rollout(), "Side by side": _side_by_side(), "Shadow": _shadow()},
    )


def _rollout() -> list[Panel]:
    return [
        graph(
            "Canary share",
            "percentunit",
            "Of new episodes. A fall to nothing: rolled back, taken off or aborted; the ledger "
            "says by whom.",
            [Query("""max by (policy) (dqn_canary_share{policy=~"$policy"})""", "{{policy}}")],
        ),
        graph(
            "Evidence of the rollout",
            "short",
            "Natural logarithm. Rollback at its threshold: CanaryWorse in the runbook. Promotion "
            "at its threshold: dqn promote, if nothing else speaks against it.",
            [
                Query(
                    """
                    max by (policy, test) (dqn_rollout_log_evidence{policy=~"$policy"})
                    """,
                    "{{policy}} {{test}}",
                ),
                Query("max by (test) (dqn_rollout_threshold)", "threshold of {{test}}"),
            ],
        ),
        graph(
            "Guardrails that fired",
            "short",
            "Each is a canary that a worker took off its own traffic: CanaryTakenOff in the "
            "runbook.",
            [
                Query(
                    """
                    sum by (policy) (
                      increase(dqn_guardrails_fired_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}}",
                )
            ],
        ),
        graph(
            "Judge's lease",
            "s",
            "What is left of it. At 0 nobody weighs the canary, which is held and then stopped: "
            "JudgeAway in the runbook.",
            [
                Query(
                    """max by (policy) (dqn_judge_lease_seconds{policy=~"$policy"})""", "{{policy}}"
                )
            ],
        ),
    ]


def _side_by_side() -> list[Panel]:
    return [
        graph(
            "Returns by variant",
            "short",
            "Mean of the last hundred whole episodes. Episodes are matched in time by the judge "
            "and not here: a gap is a hint, 'Evidence of the rollout' decides.",
            [
                Query(
                    """
                    max by (policy, variant) (dqn_episode_return_recent_mean{policy=~"$policy"})
                    """,
                    "{{policy}} {{variant}}",
                )
            ],
        ),
        graph(
            "Heuristic share by variant",
            "percentunit",
            "A canary above stable is a worse bundle: abort it and read its reasons.",
            [
                Query(
                    """
                    sum by (policy, variant) (rate(
                      dqn_decisions_total{policy=~"$policy", source="heuristic"}[$__rate_interval]
                    ))
                    / sum by (policy, variant) (
                      rate(dqn_decisions_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}} {{variant}}",
                )
            ],
        ),
    ]


def _shadow() -> list[Panel]:
    return [
        graph(
            "Shadow disagrees",
            "percentunit",
            "Share of rows in which the shadow would act otherwise. All: another task or a broken "
            "bundle. None: no new policy, so do not bother.",
            [
                Query(
                    """
                    sum by (policy) (
                      rate(dqn_shadow_disagreements_total{policy=~"$policy"}[$__rate_interval])
                    )
                    / sum by (policy) (
                      rate(dqn_shadow_rows_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}}",
                )
            ],
        ),
        graph(
            "Shadow's calls",
            "s",
            "The slowest 1 %. Beyond what stable takes: it would miss deadlines as a canary.",
            [
                Query(
                    """
                    histogram_quantile(0.99, sum by (policy, le) (
                      rate(dqn_shadow_seconds_bucket{policy=~"$policy"}[$__rate_interval])
                    ))
                    """,
                    "{{policy}}",
                )
            ],
        ),
    ]
