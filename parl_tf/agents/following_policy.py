"""Policies that follow the trained one."""

from typing import Dict, NamedTuple, Optional

import tensorflow as tf

from parl_tf import replicas


class FollowingPolicy(tf.Module):
  """A policy whose weights move slowly, or not at all, towards another's.

  A critic whose targets take the actions of the present policy evaluates a
  policy that changes with every update. With this one, it evaluates a policy
  that stays (rate 0: one step of policy improvement, as in Brandfonbrener et
  al., 2021, arXiv:2106.08909) or that follows, like the target actor of DDPG
  (Lillicrap et al., 2016, arXiv:1509.02971).

  Likewise, a policy that imitates the best of its own samples moves on with
  every update, also where the critic errs. If it imitates the best samples of
  this one, it moves more slowly, and at rate 0 towards a fixed search.

  Attributes:
    policy: The `GenerativePolicy` that follows.
  """

  def __init__(self, policy, source, rate: float):
    """Initializes the policy.

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
    for variable, source in zip(
        self.policy.variables, self._source.variables, strict=True
    ):
      variable.assign(source)

  def update(self) -> None:
    """Moves all variables towards those of the source."""
    if self._rate:
      replicas.move_towards(
          self.policy.variables, self._source.variables, self._rate
      )


class Followers(NamedTuple):
  """The policies of an agent that follow the trained one; None is that one.

  Attributes:
    target_policy: Makes the critic's targets and penalties.
    sampling_policy: Draws the samples that are searched for distillation.
  """

  target_policy: Optional[FollowingPolicy] = None
  sampling_policy: Optional[FollowingPolicy] = None

  def by_name(self) -> Dict[str, FollowingPolicy]:
    """Returns those that are not None."""
    return {k: x for k, x in self._asdict().items() if x is not None}
