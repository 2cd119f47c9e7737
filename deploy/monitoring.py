"""Writes what Kubernetes is told of `dashboards/`.

That is the rules as a resource of the Prometheus operator, and the list of dashboards that become a
ConfigMap.

    python deploy/monitoring.py          # writes
    python deploy/monitoring.py --check  # 1 where what is written is out of date
"""

import sys
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
DASHBOARDS: Final = ROOT / "dashboards"
RULE: Final = ROOT / "deploy" / "kustomize" / "components" / "monitoring" / "prometheus-rule.yaml"
_WRITTEN: Final = "# Written by deploy/monitoring.py.\n"


def resources(dashboards: Path) -> dict[Path, str]:
    """What to write where, from a folder of rules and dashboards."""
    return {RULE: _rule(dashboards), DASHBOARDS / "kustomization.yaml": _list(dashboards)}


def _rule(dashboards: Path) -> str:
    """All groups of all rule files, as one PrometheusRule."""
    files = sorted((dashboards / "prometheus" / "rules").glob("*.yml"))
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]
    return _yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "dqn", "labels": {"app.kubernetes.io/name": "dqn"}},
            "spec": {"groups": [group for document in documents for group in document["groups"]]},
        }
    )


def _list(dashboards: Path) -> str:
    """A kustomization: it may only name files below its own folder, so it lies beside them."""
    files = sorted((dashboards / "grafana" / "dashboards").glob("*.json"))
    generator = {
        "name": "dqn-dashboards",
        "files": [str(path.relative_to(dashboards)) for path in files],
        "options": {"labels": {"grafana_dashboard": "1"}},
    }
    return _yaml(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "configMapGenerator": [generator],
            "generatorOptions": {"disableNameSuffixHash": True},
        }
    )


def _yaml(document: dict[str, Any]) -> str:
    return _WRITTEN + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def main() -> int:
    """Write, or compare."""
    written = resources(DASHBOARDS)
    if "--check" in sys.argv[1:]:
        return int(
            any(
                not path.exists() or path.read_text(encoding="utf-8") != text
                for path, text in written.items()
            )
        )
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
