"""What holds a network's parameters, as one vector, near those of an earlier policy."""

from typing import NamedTuple

from torch import Tensor


class Elasticity(NamedTuple):
    """Elastic weight consolidation (Kirkpatrick et al., 2017) of parameters in one vector, [P]."""

    anchors: Tensor
    """The parameters as they were, [P]."""

    strengths: Tensor
    """How firmly each is held, [P]: the penalty's strength times its Fisher information."""

    def pull(self, parameters: Tensor) -> Tensor:
        """The gradient of `regularisation.elastic_penalty`, to be added to that of a loss, [P]."""
        return self.strengths * (parameters - self.anchors)
