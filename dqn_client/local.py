"""The policy's heuristic in the agent itself, for when nobody else answers.

What is answered here is not in the log: the server has not seen it.
"""

from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from contract.declaration import PolicyDeclaration, legal_actions, read_declaration
from contract.heuristics import refuse_unlisted
from dqn_client.messages import Answer, AnsweredBy, StepAnswer

UNREACHABLE: Final = "unreachable"


class LocalPolicy:
    """Answers as the server's fallback would, from the same declaration.

    Args:
        declaration: The policy's `policy.toml`.
        rng: For heuristics that are random.
        allowed_heuristics: Python functions, `module:name`, that a declared heuristic may run here.

    Raises:
        ValueError: The heuristic is a Python function that is not allowed.
    """

    def __init__(
        self,
        declaration: PolicyDeclaration,
        rng: np.random.Generator | None = None,
        allowed_heuristics: tuple[str, ...] = (),
    ) -> None:
        refuse_unlisted(declaration.heuristic, allowed_heuristics)
        self._declaration = declaration
        self._rng = rng or np.random.default_rng()

    @classmethod
    def read(cls, directory: Path) -> Self:
        """From a policy's folder, of which only `policy.toml` is needed.

        Raises:
            DeclarationError: There is none, or it is malformed.
        """
        return cls(read_declaration(directory))

    def act(
        self, observations: npt.ArrayLike, action_masks: npt.ArrayLike | None, policy: str | None
    ) -> Answer:
        """Actions for observations [N, *shape]."""
        actions, propensities = self._choose(np.asarray(observations), action_masks)
        return Answer(
            policy=policy or "",
            decision_id="",
            actions=actions,
            propensities=propensities,
            answered_by=[_answered_here()],
        )

    def step(
        self,
        episode_id: str,
        step: int,
        observation: npt.ArrayLike | None,
        *,
        policy: str | None = None,
        action_mask: npt.ArrayLike | None = None,
        **_: Any,
    ) -> StepAnswer:
        """The action for one frame; earlier frames of a stack are taken to look the same.

        Without a frame it is the last report: the receipt says that nothing of it is durable.
        """
        if observation is None:
            return StepAnswer(policy or "", episode_id, step, -1, answered_by=_answered_here())
        frame = np.asarray(observation)
        stack = self._declaration.observation.frame_stack
        whole = frame if stack == 1 else np.repeat(frame[None], stack, axis=0)
        masks = None if action_mask is None else np.asarray(action_mask)[None]
        actions, propensities = self._choose(whole[None], masks)
        return StepAnswer(
            policy=policy or "",
            episode_id=episode_id,
            step=step,
            durable_step=-1,
            action=actions[0],
            propensity=propensities[0],
            answered_by=_answered_here(),
        )

    def _choose(
        self, observations: npt.NDArray[Any], action_masks: npt.ArrayLike | None
    ) -> tuple[list[int], list[float]]:
        given = None if action_masks is None else np.asarray(action_masks, np.bool_)
        masks = legal_actions(given, len(observations), self._declaration.actions.count)
        actions, propensities = self._declaration.heuristic.choose(observations, masks, self._rng)
        return actions.tolist(), propensities.tolist()


def _answered_here() -> AnsweredBy:
    return AnsweredBy(version=None, variant="stable", source="heuristic", reason=UNREACHABLE)
