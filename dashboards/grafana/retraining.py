"""What is learned from the log: cycles, their candidates, and how old the last verdict is."""

from dashboards.grafana.panels import Panel, Query, Step, graph

_LATE_SECONDS = 3 * 86_400


def retraining() -> list[Panel]:
    """The row on cycles of retraining."""
    return [
        graph(
            "Cycles by outcome",
            "short",
            "Blocked is the gate at work, too_little a quiet log. Failed, diverged, refused or "
            "quarantined twice a day: RetrainingFailed in the runbook.",
            [
                Query(
                    """
                    sum by (policy, outcome) (
                      increase(dqn_retrain_runs_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}} {{outcome}}",
                )
            ],
            is_stacked=True,
        ),
        graph(
            "Age of the last verdict",
            "s",
            "Since a candidate was judged, whatever came of it. Beyond the line: RetrainingLate in "
            "the runbook.",
            [
                Query(
                    """
                    time() - max by (policy) (
                      dqn_retrain_last_success_timestamp_seconds{policy=~"$policy"}
                    )
                    """,
                    "{{policy}}",
                )
            ],
            limits=(Step(_LATE_SECONDS, "orange"),),
        ),
        graph(
            "Candidate's advantage",
            "short",
            "Over the version that serves, in the unit of rewards as they are learned from. The "
            "lower bound decides: above 0 it goes on to a canary, below it RetrainingBlocked "
            "counts.",
            [
                Query(
                    """max by (policy) (dqn_retrain_candidate_advantage{policy=~"$policy"})""",
                    "{{policy}} estimated",
                ),
                Query(
                    """
                    max by (policy) (
                      dqn_retrain_candidate_advantage_lower_bound{policy=~"$policy"}
                    )
                    """,
                    "{{policy}} at least",
                ),
            ],
            limits=(Step(0, "green"),),
        ),
        graph(
            "Stage of the cycle",
            "short",
            "Done between two cycles. One stage for hours: shadow waits on purpose, any other is "
            "stuck, so read the process's log.",
            [
                Query(
                    """max by (policy, stage) (dqn_retrain_stage{policy=~"$policy"}) == 1""",
                    "{{policy}} {{stage}}",
                )
            ],
        ),
        graph(
            "Episodes left out",
            "short",
            "By the last cycle, as they do not fit the policy. Many: dqn dataset audit names them, "
            "EpisodesQuarantined in the runbook says why.",
            [
                Query(
                    """max by (policy) (dqn_retrain_suspicious_episodes{policy=~"$policy"})""",
                    "{{policy}}",
                )
            ],
        ),
    ]
