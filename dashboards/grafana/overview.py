"""The overview: is it answering, by whom, how fast; are its Q-values sane; is its log kept."""

from grafana_foundation_sdk.builders import dashboard

from dashboards.grafana.boards import board
from dashboards.grafana.budgets import budgets
from dashboards.grafana.experience import experience
from dashboards.grafana.glance import glance
from dashboards.grafana.q_values import q_values
from dashboards.grafana.serving import serving


def overview() -> dashboard.Dashboard:
    """The dashboard to begin with."""
    return board(
        "DQN overview",
        "dqn-overview",
        "What is answered and how fast, what is left of the budgets, what becomes of the log.",
        {
            "At a glance": glance(),
            "Budgets": budgets(),
            "Serving": serving(),
            "Q-values": q_values(),
            "Experience": experience(),
        },
    )
