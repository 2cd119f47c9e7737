"""Moments that every graph shows: what changed in the ledger, and which alerts fired.

Grafana draws a mark where the query is 1, and looks a minute apart: so long must a change be the
newest one. The fields are those of Grafana's Prometheus annotations, which its SDK does not know.
"""

from typing import Any, Final

_LOOK: Final = "1m"


def marks() -> list[dict[str, Any]]:
    """The annotations of a dashboard, as its JSON has them."""
    return [
        _mark(
            "Ledger",
            "blue",
            f"""(
  max by (policy, action) (dqn_ledger_entries{{policy=~"$policy"}})
  - max by (policy, action) (dqn_ledger_entries{{policy=~"$policy"}} offset {_LOOK})
) > bool 0""",
            "{{policy}}: {{action}}",
            "Who did it, and why: dqn ledger show, or /v1/policies/{{policy}}/ledger.",
        ),
        _mark(
            "Alerts",
            "red",
            """max by (alertname, policy, severity) (
  ALERTS{alertstate="firing", alertname!="Watchdog", policy=~"$policy|"}
)""",
            "{{alertname}} {{policy}}",
            "The section of this name in docs/runbook.md says what to do.",
        ),
    ]


def _mark(name: str, colour: str, expr: str, title: str, text: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expr,
        "step": _LOOK,
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": "",
        "useValueForTime": False,
    }
