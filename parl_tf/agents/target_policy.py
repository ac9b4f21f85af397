"""A policy that follows the trained one, for the critic's targets."""

import tensorflow as tf

from parl_tf import replicas


class TargetPolicy(tf.Module):
  """A policy whose weights move slowly, or not at all, towards another's.

  A critic whose targets take the actions of the present policy evaluates a
  policy that changes with every update. With this one, it evaluates a policy
  that stays (rate 0: one step of policy improvement, as in Brandfonbrener et
  al., 2021, arXiv:2106.08909) or that follows, like the target actor of DDPG
  (Lillicrap et al., 2016, arXiv:1509.02971).

  Attributes:
    policy: The `GenerativePolicy` that follows.
  """

  def __init__(self, policy, source, rate: float):
    """Initializes the target policy.

    Args:
      policy: `GenerativePolicy` with the same variables as `source`.
      source: `GenerativePolicy` to follow.
      rate: Fraction in [0, 1) of the way to `source` in each `update`.
    """
    super().__init__()
    self.policy = policy
    self._source = source
    self._rate = rate

  def reset(self) -> None:
    """Copies all variables of the source."""
    for target, source in zip(
        self.policy.variables, self._source.variables, strict=True
    ):
      target.assign(source)

  def update(self) -> None:
    """Moves all variables towards those of the source."""
    if self._rate:
      replicas.move_towards(
          self.policy.variables, self._source.variables, self._rate
      )
