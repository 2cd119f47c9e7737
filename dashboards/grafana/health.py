"""Q and reward health: what is promised, what comes, whether the world is still training's."""

from grafana_foundation_sdk.builders import dashboard

from dashboards.grafana.boards import board
from dashboards.grafana.panels import Panel, Query, Step, graph


def health() -> dashboard.Dashboard:
    """The dashboard of returns, promises, drift and hacks."""
    return board(
        "DQN Q and reward health",
        "dqn-health",
        "Returns and Q-values beside training's, drift by signal, episodes that were kept apart.",
        {
            "Returns": _returns(),
            "Promises": _promises(),
            "Drift": _drift(),
            "Hacks": _hacks(),
        },
    )


def _returns() -> list[Panel]:
    return [
        graph(
            "Return against training",
            "short",
            "Mean of the last hundred whole episodes. Below the limit RewardLow pages: roll back "
            "if it began with a version.",
            [
                _query("dqn_episode_return_recent_mean", "now"),
                _query("dqn_episode_return_training_mean", "in training"),
                _query("dqn_episode_return_floor", "heuristic"),
                Query(
                    """
                    max by (policy, variant) (
                      0.8 * dqn_episode_return_training_mean{policy=~"$policy"}
                      + 0.2 * dqn_episode_return_floor{policy=~"$policy"}
                    )
                    """,
                    "{{policy}} {{variant}} limit",
                ),
            ],
        ),
        graph(
            "Evidence of a fall",
            "short",
            "Grows while episodes return less than training's. At the threshold RewardFalling "
            "makes a ticket: the climb's beginning tells since when.",
            [
                _query("dqn_reward_fall_score", "evidence"),
                _query("dqn_reward_fall_threshold", "threshold"),
            ],
        ),
        graph(
            "Whole episodes",
            "eps",
            "Episodes that ended and were joined whole. None while decisions flow: rewards are "
            "missing and not low; see 'Join ratio'.",
            [
                Query(
                    """
                    sum by (policy, variant) (
                      rate(dqn_episodes_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}} {{variant}}",
                )
            ],
        ),
        graph(
            "Return against last week",
            "short",
            "The same hour a week ago. A tenth less over the heuristic for an hour: "
            "RewardFellSinceLastWeek in the runbook.",
            [
                _query("dqn_episode_return_recent_mean", "now"),
                Query(
                    """
                    max by (policy, variant) (
                      dqn_episode_return_recent_mean{policy=~"$policy"} offset 1w
                    )
                    """,
                    "{{policy}} {{variant}} a week ago",
                ),
            ],
        ),
    ]


def _promises() -> list[Panel]:
    return [
        graph(
            "Q calibration",
            "short",
            "Q-value less the discounted return that came, in sd of returns. Beyond 1 either way: "
            "QValuesUncalibrated in the runbook.",
            [_query("dqn_q_calibration_gap", "")],
            limits=(Step(1, "orange"),),
        ),
        graph(
            "Calibration slope",
            "short",
            "Return gained for each unit of Q-value. Near 1 it tells good states from bad. Near 0 "
            "it does not: retrain before its actions suffer.",
            [_query("dqn_q_calibration_slope", "")],
        ),
        graph(
            "Calibration error",
            "percentunit",
            "Mean gap of ten groups of Q-values over the range of returns: look at the slope and "
            "the bias for which way.",
            [_query("dqn_q_calibration_error", "")],
        ),
        graph(
            "Promise less return by decile",
            "short",
            "Tenths of the promises, 1 the smallest. All up: a bias, harmless by itself. Only the "
            "largest up: the policy overrates what it likes best, so retrain.",
            [
                Query(
                    """
                    max by (policy, variant, decile) (
                      dqn_q_calibration_decile_promise{policy=~"$policy"}
                      - dqn_q_calibration_decile_return{policy=~"$policy"}
                    )
                    """,
                    "{{policy}} {{variant}} {{decile}}",
                )
            ],
        ),
        graph(
            "Q consistency gap",
            "short",
            "Q-value less the next 20 rewards and the Q-value after them: moves before returns are "
            "known. A drift from its level: look at 'Drift over its limit'.",
            [_query("dqn_q_consistency_gap", "")],
        ),
    ]


def _drift() -> list[Panel]:
    return [
        graph(
            "Drift over its limit",
            "suffix: x",
            "The worst column of each signal, by test, in the last full window. At 1 DriftFound "
            "makes a ticket: /v1/policies names the columns.",
            [
                Query(
                    """
                    max by (policy, signal, test) (
                      dqn_drift_score{policy=~"$policy"} / dqn_drift_threshold{policy=~"$policy"}
                    )
                    """,
                    "{{policy}} {{signal}} {{test}}",
                )
            ],
            limits=(Step(1, "red"),),
        ),
        graph(
            "Drifted columns",
            "short",
            "One: a sensor, a unit. Many: the environment. DriftFound in the runbook.",
            [
                Query(
                    """max by (policy) (dqn_drift_features_alarming{policy=~"$policy"})""",
                    "{{policy}}",
                )
            ],
        ),
        graph(
            "Drift is watched",
            "bool_on_off",
            "Off: the bundle has no profile, as adopted ones have none, and no drift is told.",
            [
                Query(
                    """max by (policy) (dqn_drift_armed{policy=~"$policy"})""",
                    "{{policy}}",
                )
            ],
        ),
    ]


def _hacks() -> list[Panel]:
    return [
        graph(
            "Quarantined episodes",
            "eps",
            "Kept out of retraining, by the first check they did not pass. More than one in "
            "twenty: EpisodesQuarantined in the runbook.",
            [
                Query(
                    """
                    sum by (policy, test) (
                      rate(dqn_episodes_quarantined_total{policy=~"$policy"}[$__rate_interval])
                    )
                    """,
                    "{{policy}} {{test}}",
                )
            ],
            is_stacked=True,
        ),
    ]


def _query(series: str, what: str) -> Query:
    legend = f"{{{{policy}}}} {{{{variant}}}} {what}".strip()
    return Query(f'max by (policy, variant) ({series}{{policy=~"$policy"}})', legend)
