"""From features to Q-values: plain or dueling, one value an action or a distribution of returns."""

from torch import Tensor, nn

from training.distributions import Categorical, Distribution, returns_of
from training.noisy import linear


class Head(nn.Module):
    """One linear layer from features to what is learned of each action.

    That is one value, or what `distribution` says: `size` logits or `size` quantiles.
    """

    support: Tensor

    def __init__(
        self,
        width: int,
        num_actions: int,
        distribution: Distribution | None,
        noise_scale: float | None,
    ) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.distribution = distribution
        self.size = 1 if distribution is None else distribution.size
        if isinstance(distribution, Categorical):
            self.register_buffer("support", returns_of(distribution), persistent=False)
        self._add_layers(width, noise_scale)

    def _add_layers(self, width: int, noise_scale: float | None) -> None:
        self.actions = linear(width, self.num_actions * self.size, noise_scale)

    def outputs(self, features: Tensor) -> Tensor:
        """What is learned of each action, [N, num_actions, size]."""
        outputs: Tensor = self.actions(features)
        return outputs.view(-1, self.num_actions, self.size)

    def forward(self, features: Tensor) -> Tensor:
        """Q-values, [N, num_actions]."""
        return self.q_values(self.outputs(features))

    def q_values(self, outputs: Tensor) -> Tensor:
        """The means of the distributions, [N, num_actions]."""
        if self.distribution is None:
            return outputs.squeeze(2)
        if isinstance(self.distribution, Categorical):
            return outputs.softmax(dim=2) @ self.support
        return outputs.mean(dim=2)


class DuelingHead(Head):
    """Two streams, state value and action advantages (Wang et al., 2016).

    The features come as [value stream | advantage stream], both of `width`.
    """

    def _add_layers(self, width: int, noise_scale: float | None) -> None:
        self.value = linear(width, self.size, noise_scale)
        self.advantages = linear(width, self.num_actions * self.size, noise_scale)

    def outputs(self, features: Tensor) -> Tensor:
        """What is learned of each action, [N, num_actions, size]."""
        value_features, advantage_features = features.chunk(2, dim=1)
        values = self.value(value_features).unsqueeze(1)
        advantages = self.advantages(advantage_features)
        return dueling_outputs(values, advantages.view(-1, self.num_actions, self.size))


def dueling_outputs(values: Tensor, advantages: Tensor) -> Tensor:
    """V + A - mean(A): equation 9 of Wang et al. (2016); for logits as in Hessel et al. (2018).

    Args:
        values: Of states, [N, 1, size].
        advantages: Of actions, [N, num_actions, size].
    """
    return values + advantages - advantages.mean(dim=1, keepdim=True)
