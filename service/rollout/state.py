"""What the ledger adds up to: which version is stable, what is pinned. A pure fold."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from contract.ledger import Entry


@dataclass(frozen=True)
class PolicyState:
    """The rollout state of one policy."""

    stable: int | None = None
    """The version that operators want to serve."""
    previous: int | None = None
    is_pinned: bool = False
    """The heuristic answers, whatever is stable."""
    is_frozen: bool = False
    """No promotion until it is lifted; a rollback always may be."""
    changed_at: str | None = None


def fold(entries: Iterable[Entry], states: dict[str, PolicyState]) -> dict[str, PolicyState]:
    """The states after these entries; an action that changes no state is passed over."""
    states = dict(states)
    for entry in entries:
        state = states.get(entry.policy, PolicyState())
        changed = _apply(state, entry)
        if changed is not state:
            states[entry.policy] = replace(changed, changed_at=entry.at)
    return states


def _apply(state: PolicyState, entry: Entry) -> PolicyState:
    match entry.action:
        case "promote":
            return replace(state, stable=entry.version, previous=state.stable)
        case "rollback":
            return replace(state, stable=entry.version, previous=state.stable)
        case "pin":
            return replace(state, is_pinned=True)
        case "unpin":
            return replace(state, is_pinned=False)
        case "freeze":
            return replace(state, is_frozen=True)
        case "unfreeze":
            return replace(state, is_frozen=False)
        case _:
            return state
