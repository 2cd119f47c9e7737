"""The service's operator calls, as a cycle makes them."""

from datetime import datetime
from typing import Any

from dqn_client import Client
from retraining.state import CycleError, CycleState, HeldError

_ALIASES = ("stable", "canary", "shadow", "previous", "registered")


class Operator:
    """Speaks of one policy, with a key of the scopes `read` and `submit`."""

    def __init__(self, client: Client, policy: str) -> None:
        self._client, self._policy = client, policy

    def stands(self) -> dict[str, Any]:
        """Aliases as the service has them.

        Raises:
            HeldError: The policy is frozen.
            CycleError: It has no stable version.
            ClientError: The service refused, or could not be reached.
        """
        stands = self._rollout()
        if stands["frozen"]:
            raise HeldError(f"{self._policy} is frozen: retraining waits for `unfreeze`")
        if stands["stable"] is None:
            raise CycleError(f"{self._policy} has no stable version to learn on from")
        return stands

    def aliased(self) -> list[int]:
        """Versions that have a name now."""
        stands = self._rollout()
        return [stands[name] for name in _ALIASES if stands[name] is not None]

    def is_asked(self, since: float) -> bool:
        """Whether somebody asked for a cycle, by a ledger entry `retrain`, after a time.

        Raises:
            ClientError: The service refused, or could not be reached.
        """
        found = self._client.get(f"/v1/policies/{self._policy}/ledger")
        asked = (entry["at"] for entry in found["entries"] if entry["action"] == "retrain")
        return any(datetime.fromisoformat(at).timestamp() > since for at in asked)

    def change(
        self, state: CycleState, action: str, why: str, *, step: str | None = None, **fields: Any
    ) -> None:
        """Make one change for a cycle; the same one again changes nothing more.

        Args:
            state: Of the cycle.
            action: Which call.
            why: Kept in the ledger.
            step: Tells changes apart that one cycle makes by the same call.
            **fields: Whatever else the call takes.

        Raises:
            ClientError: The service refused, or could not be reached.
        """
        body = {
            "version": state.version,
            "why": why[:2000],
            "expected_stable": state.parent,
            "key": f"{state.cycle_id}-{step or action}",
        }
        self._client.change(self._policy, action, body | fields)

    def _rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get(f"/v1/policies/{self._policy}/rollout")
        return found
