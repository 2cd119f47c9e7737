"""Acting at random now and then, so that the log says what other actions would have brought.

Epsilon-greedy with the exact propensity of what was done, which is what off-policy evaluation
weighs by (Sutton and Barto, Reinforcement Learning, 2nd edition, sections 2.2 and 5.5).
"""

import numpy as np
import numpy.typing as npt

from contract.declaration import legal_actions
from service.inference.fallback import Chosen


def explore(
    chosen: Chosen,
    rows: npt.NDArray[np.bool_],
    action_masks: npt.NDArray[np.bool_] | None,
    num_actions: int,
    epsilon: float,
    rng: np.random.Generator,
) -> None:
    """Replace some of the model's actions by legal ones drawn at random, in place.

    Args:
        chosen: What N rows were given.
        rows: [N], True where the episode agreed to it; a heuristic's rows are left as they are.
        action_masks: [N, num_actions], True where legal; None where every action is.
        num_actions: Width of the masks.
        epsilon: Probability of a draw, over all legal actions, the greedy one included.
        rng: Where the randomness comes from.
    """
    if chosen.index is not None:
        from_model = np.array([entry.source == "model" for entry in chosen.answered_by])
        rows = rows & from_model[chosen.index]
    elif chosen.answered_by[0].source != "model":
        return
    places = np.flatnonzero(rows)
    if not len(places):
        return
    legal = legal_actions(action_masks, len(rows), num_actions)[places]
    greedy = chosen.actions[places]
    drawn = _draw(legal, rng)
    actions = np.where(rng.random(len(places)) < epsilon, drawn, greedy)
    # The model's own arrays: what it said stays what it said.
    chosen.actions, chosen.propensities = chosen.actions.copy(), chosen.propensities.copy()
    chosen.actions[places] = actions
    chosen.propensities[places] = epsilon / legal.sum(axis=1) + (1 - epsilon) * (actions == greedy)


def _draw(legal: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """One legal action a row, each as likely as the others."""
    drawn: npt.NDArray[np.intp] = np.where(legal, rng.random(legal.shape), -1.0).argmax(axis=1)
    return drawn
