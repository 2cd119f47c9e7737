"""The data loop: from a decision to what is learned from."""

from grafana_foundation_sdk.builders import dashboard

from dashboards.grafana.boards import board
from dashboards.grafana.panels import Panel, Query, Step, graph
from dashboards.grafana.retraining import retraining


def data_loop() -> dashboard.Dashboard:
    """The dashboard of joining and sealing."""
    return board(
        "DQN data loop",
        "dqn-data-loop",
        "What joins, what waits, what is sealed, what is learned from it.",
        {"Joining": _joining(), "Sealing": _sealing(), "Retraining": retraining()},
    )


def _joining() -> list[Panel]:
    return [
        graph(
            "Join ratio",
            "percentunit",
            "Share of the latest 10,000 closed decisions that got a reward. Below the line: "
            "JoinRatioLow in the runbook, and nothing is said of returns.",
            [Query("""min by (policy) (dqn_join_ratio{policy=~"$policy"})""", "{{policy}}")],
            limits=(Step(0.9, "orange"),),
        ),
        graph(
            "Outcomes by what became of them",
            "ops",
            "Joined is well. Unknown: decisions that never came. Late: raise "
            "episode_timeout_seconds. Invalid: agents are told why.",
            [
                Query(
                    "sum by (result) (rate(dqn_outcomes_total[$__rate_interval]))",
                    "{{result}}",
                )
            ],
            is_stacked=True,
        ),
        graph(
            "Outcome lag",
            "s",
            "From a decision to its reward. Near the episode's timeout: raise it, or rewards are "
            "lost to learning.",
            [
                Query(
                    f"""
                    histogram_quantile({share}, sum by (policy, le) (
                      rate(dqn_outcome_lag_seconds_bucket{{policy=~"$policy"}}[$__rate_interval])
                    ))
                    """,
                    f"{{{{policy}}}} p{100 * share:g}",
                )
                for share in (0.5, 0.99)
            ],
        ),
        graph(
            "Rewards of a step",
            "short",
            "Quantiles over all variants. A jump without a new version: ask what computes rewards.",
            [
                Query(
                    f"""
                    histogram_quantile({share}, sum by (policy, le) (
                      rate(dqn_reward_bucket{{policy=~"$policy"}}[$__rate_interval])
                    ))
                    """,
                    f"{{{{policy}}}} p{100 * share:g}",
                )
                for share in (0.01, 0.5, 0.99)
            ],
        ),
        graph(
            "Evicted episodes",
            "eps",
            "Open episodes dropped to make room: raise open_episodes_max, or end episodes.",
            [Query("sum(rate(dqn_episodes_evicted_total[$__rate_interval]))", "evicted")],
        ),
    ]


def _sealing() -> list[Panel]:
    return [
        graph(
            "Records sealed",
            "ops",
            "Falls behind 'Records': the recorder is down or slow; RecorderStuck in the runbook.",
            [
                Query(
                    """sum(rate(dqn_records_total{stage="sealed"}[$__rate_interval]))""",
                    "sealed",
                )
            ],
        ),
        graph(
            "Age of the last pass",
            "s",
            "Beyond five minutes: RecorderStuck in the runbook.",
            [
                Query(
                    "time() - max by (instance) (dqn_recorder_last_pass_timestamp_seconds)",
                    "{{instance}}",
                )
            ],
            limits=(Step(300, "red"),),
        ),
        graph(
            "Waiting in streams",
            "short",
            "Entries that are not sealed. A climb: the recorder is slower than the traffic.",
            [Query("max by (instance) (dqn_stream_pending)", "{{instance}}")],
        ),
        graph(
            "Dead letters",
            "ops",
            "Zero where all is well; else service and recorder are of different releases.",
            [Query("sum(rate(dqn_dead_letters_total[$__rate_interval]))", "dead letters")],
        ),
        graph(
            "Oldest record in a spool",
            "s",
            "Grows while nothing ships: see 'Redis', then RedisDown in the runbook.",
            [Query("max by (instance) (dqn_spool_oldest_seconds)", "{{instance}}")],
        ),
    ]
