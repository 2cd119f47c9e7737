"""The kinds of panel the dashboards are made of, each with what no panel may lack."""

from collections.abc import Sequence
from inspect import cleandoc
from string import ascii_uppercase
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    GraphThresholdsStyleMode,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")

_GRAPH_WIDTH: Final = 8
_GRAPH_HEIGHT: Final = 8
_STAT_WIDTH: Final = 4
_STAT_HEIGHT: Final = 4


Panel = timeseries.Panel | stat.Panel


class Query(NamedTuple):
    """One PromQL expression and how its series are named."""

    expr: str
    legend: str


class Step(NamedTuple):
    """From this value on, this colour; the first step has no value."""

    value: float | None
    colour: str


NEUTRAL: Final = (Step(None, "blue"),)


def graph(
    title: str,
    unit: str,
    description: str,
    queries: Sequence[Query],
    *,
    limits: Sequence[Step] = (),
    is_stacked: bool = False,
) -> timeseries.Panel:
    """Series over time, from zero where they allow it; a limit is drawn as a dashed line.

    The description says what to do about what is seen.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .unit(unit)
        .description(description)
        .datasource(DATASOURCE)
        .span(_GRAPH_WIDTH)
        .height(_GRAPH_HEIGHT)
        .axis_soft_min(0)
        .fill_opacity(30 if is_stacked else 0)
        # A single sample between two gaps would otherwise be invisible.
        .show_points(VisibilityMode.AUTO)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if is_stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if limits:
        panel.thresholds(_thresholds([Step(None, "transparent"), *limits]))
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        )
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(_target(letter, query))
    return panel


def single(
    title: str, unit: str, description: str, expr: str, steps: Sequence[Step] = NEUTRAL
) -> stat.Panel:
    """The newest value in large, in the colour of the step it has reached."""
    return (
        stat.Panel()
        .title(title)
        .unit(unit)
        .description(description)
        .datasource(DATASOURCE)
        .span(_STAT_WIDTH)
        .height(_STAT_HEIGHT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
        .with_target(_target("A", Query(expr, "")))
    )


def _target(letter: str, query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(letter)
        .expr(cleandoc(query.expr))
        .legend_format(query.legend)
        .range()
    )


def _thresholds(steps: Sequence[Step]) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=step.value, color=step.colour) for step in steps])
    )
