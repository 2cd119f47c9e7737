"""What policies declare that those who judge their episodes need."""

from collections.abc import Callable
from pathlib import Path

import structlog

from contract.declaration import AuditMetric, DeclarationError, read_declaration
from recorder.hacking import Audit
from recorder.traces import Trace

_log = structlog.get_logger(__name__)


def audits_in(repository: Path) -> Callable[[str], Audit | None]:
    """Policy to what its audit metric makes of an episode; None where it declares none."""

    def audit_of(policy: str) -> Audit | None:
        try:
            metric = read_declaration(repository / policy).audit
        except DeclarationError as error:
            _log.warning("declaration_unknown", policy=policy, why=str(error))
            return None
        return None if metric is None else _audit_by(metric)

    return audit_of


def _audit_by(metric: AuditMetric) -> Audit:
    def audit(trace: Trace) -> float | None:
        return metric.total(trace.audits)

    return audit
