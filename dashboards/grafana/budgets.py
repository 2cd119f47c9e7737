"""What may go wrong in a month, and how fast it does."""

from dashboards.grafana.panels import Panel, Query, Step, graph


def budgets() -> list[Panel]:
    """The row on objectives. Series without a policy are of the whole service."""
    return [
        graph(
            "Budget burn",
            "suffix: x",
            "Error budgets of 30 days: at 1 they last the month. Above the line for an hour and "
            "for five minutes: SloBudgetBurnsFast in the runbook.",
            [
                Query(
                    """
                    slo:dqn_bad:ratio_rate1h{policy=~"$policy|"}
                    / on (slo) group_left () slo:dqn_budget:ratio
                    """,
                    "{{slo}} {{policy}} 1 h",
                ),
                Query(
                    """
                    slo:dqn_bad:ratio_rate6h{policy=~"$policy|"}
                    / on (slo) group_left () slo:dqn_budget:ratio
                    """,
                    "{{slo}} {{policy}} 6 h",
                ),
            ],
            limits=(Step(6, "orange"), Step(14.4, "red")),
        ),
        graph(
            "Budget of three days",
            "percentunit",
            "What three days at this rate would leave of the budget. Below 0 the month will not be "
            "met: SloBudgetBurnsSlowly in the runbook.",
            [
                Query(
                    """
                    1 - slo:dqn_bad:ratio_rate3d{policy=~"$policy|"}
                    / on (slo) group_left () slo:dqn_budget:ratio
                    """,
                    "{{slo}} {{policy}}",
                )
            ],
            limits=(Step(0, "red"),),
        ),
    ]
