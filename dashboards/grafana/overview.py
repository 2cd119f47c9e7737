"""The overview: is it answering, by whom, how fast; are its Q-values sane; is its log kept."""

from itertools import count

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    VariableRefresh,
    VariableSort,
)

from dashboards.grafana.experience import experience
from dashboards.grafana.glance import glance
from dashboards.grafana.panels import DATASOURCE
from dashboards.grafana.q_values import q_values
from dashboards.grafana.serving import serving


def overview() -> dashboard.Dashboard:
    """Build the dashboard, which every later one links back to."""
    built = (
        dashboard.Dashboard("DQN overview")
        .uid("dqn-overview")
        .description(
            "What is answered and how fast, how the Q-values look, what becomes of the log."
        )
        .tags(["dqn"])
        .refresh("15s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(_datasource())
        .with_variable(_policy())
    )
    rows = {
        "At a glance": glance(),
        "Serving": serving(),
        "Q-values": q_values(),
        "Experience": experience(),
    }
    ids = count(1)
    for title, panels in rows.items():
        built.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels:
            built.with_panel(panel.id(next(ids)))
    return built


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _policy() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("policy")
        .label("Policy")
        .datasource(DATASOURCE)
        .query("label_values(dqn_decisions_total, policy)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )
