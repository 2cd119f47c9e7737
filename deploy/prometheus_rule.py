"""Writes the rules of dashboards/prometheus as a resource of the Prometheus operator.

python deploy/prometheus_rule.py          # writes
python deploy/prometheus_rule.py --check  # 1 where what is written is not what the rules say
"""

import sys
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
RULES: Final = ROOT / "dashboards" / "prometheus" / "rules"
WRITTEN: Final = (
    ROOT / "deploy" / "kustomize" / "components" / "monitoring" / "prometheus-rule.yaml"
)


def prometheus_rule(rules: Path) -> str:
    """All groups of all files in a folder, as one PrometheusRule."""
    documents = [
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(rules.glob("*.yml"))
    ]
    resource: dict[str, Any] = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "dqn", "labels": {"app.kubernetes.io/name": "dqn"}},
        "spec": {"groups": [group for document in documents for group in document["groups"]]},
    }
    header = "# Written by deploy/prometheus_rule.py from dashboards/prometheus/rules.\n"
    return header + yaml.safe_dump(resource, sort_keys=False, allow_unicode=True, width=100)


def main() -> int:
    """Write, or compare."""
    text = prometheus_rule(RULES)
    if "--check" in sys.argv[1:]:
        return int(not WRITTEN.exists() or WRITTEN.read_text(encoding="utf-8") != text)
    WRITTEN.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
