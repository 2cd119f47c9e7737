"""What every dashboard has: data source, choice of policies, rows of panels, links to the rest."""

from collections.abc import Mapping, Sequence
from itertools import count

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableRefresh,
    VariableSort,
)

from dashboards.grafana.panels import DATASOURCE, Panel


def board(
    title: str, uid: str, description: str, rows: Mapping[str, Sequence[Panel]]
) -> dashboard.Dashboard:
    """A dashboard of named rows."""
    built = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["dqn"])
        .refresh("15s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("DQN dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["dqn"])
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(_datasource())
        .with_variable(_policy())
    )
    ids = count(1)
    for name, panels in rows.items():
        built.with_row(dashboard.Row(name).id(next(ids)))
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
