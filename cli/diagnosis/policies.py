"""The repository: declarations, what the ledger says is stable, and whether it would serve."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from cli.diagnosis.finding import Finding, fault, ok, warning
from contract.bundle import BundleError, read_bundle, versions_in
from contract.declaration import (
    DECLARATION_FILE,
    DeclarationError,
    PolicyDeclaration,
    read_declaration,
)
from contract.fold import fold
from contract.heuristics import refuse_unlisted
from contract.ledger import LEDGER_FILE, FileLedger, LedgerError
from contract.rollout import PolicyState
from service.inference.proof import check_declared, prove_in_child


def check_repository(repository: Path, allowed_heuristics: Sequence[str]) -> Iterator[Finding]:
    """Look at every policy as a server would that starts now."""
    folders = sorted(path.parent for path in repository.glob(f"*/{DECLARATION_FILE}"))
    if not folders:
        yield fault(
            "policies",
            f"none in {repository}",
            "a policy is a folder with policy.toml: dqn export or dqn adopt makes one",
        )
        return
    try:
        states = fold(FileLedger(repository / LEDGER_FILE).read_after(0), {})
    except (LedgerError, OSError) as error:
        yield fault("ledger", str(error), "restore the ledger from its backup; nothing is promoted")
        return
    for folder in folders:
        yield from _check_policy(folder, states.get(folder.name), allowed_heuristics)


def _check_policy(
    folder: Path, state: PolicyState | None, allowed_heuristics: Sequence[str]
) -> Iterator[Finding]:
    check = f"policy {folder.name}"
    try:
        declaration = read_declaration(folder)
        refuse_unlisted(declaration.heuristic, allowed_heuristics)
    except (DeclarationError, ValueError) as error:
        yield fault(check, str(error), "mend policy.toml: without it nothing of it is served")
        return
    stable = None if state is None else state.stable
    if stable is None:
        newest = max(versions_in(folder), default=None)
        yield warning(
            check,
            f"versions {versions_in(folder)}, none promoted: the heuristic answers everything",
            f"dqn promote {folder.name} {newest or 1} --first --why ...",
        )
        if newest is None:
            return
    version = stable or max(versions_in(folder))
    yield check_version(folder / str(version), declaration, is_stable=stable is not None)


def check_version(directory: Path, declaration: PolicyDeclaration, *, is_stable: bool) -> Finding:
    """Prove a bundle as the server does before it loads one."""
    check = f"policy {directory.parent.name} v{directory.name}"
    try:
        bundle = read_bundle(directory)
        check_declared(bundle, declaration)
        asyncio.run(prove_in_child(bundle))
    except BundleError as error:
        return fault(
            check,
            str(error),
            "it will not be served: roll back to another version, or export it again",
        )
    if bundle.manifest.profile is None:
        return warning(
            check,
            "would serve; has no profile, so its alerts on reward and drift are not armed",
            "adopt it again with --environment, or with --samples that hold rewards",
        )
    return ok(check, "is stable and proven" if is_stable else "would serve")
