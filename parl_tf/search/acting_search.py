"""The action search of policies that act."""

from typing import Optional

import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.networks import observation_encoder
from parl_tf.search import action_source
from parl_tf.search import state_actions
from parl_tf.search import xla

# Weights up to this size fit in a core's cache. Launching the operations of
# such small networks costs more than their arithmetic, and XLA launches only
# once. Larger networks multiply matrices faster without XLA. Measured by
# benchmarks/hot_path.py.
_SMALL_BYTES = 2 * 2**20


class ActingSearch(tf.Module):
  """Draws or searches actions; traced once for all policies that share it.

  Attributes:
    search: Settings of the search.
    policy: `GenerativePolicy` that draws the samples.
    critic: `Critic` that values them, or None without an optimizer.
  """

  def __init__(
      self,
      search: action_source.Search,
      policy,
      critic,
      observation_spec: types.Nest,
  ):
    """Initializes the search; traces nothing yet.

    Args:
      search: Settings of the search.
      policy: `GenerativePolicy` of chunks `[H * A]`.
      critic: `Critic`, or None if the search has no optimizer.
      observation_spec: Nest of `tf.TensorSpec` of raw observations.
    """
    super().__init__()
    self.search = search
    self.policy = policy
    self.critic = critic if search.optimizer is not None else None
    is_small = (
        search.jit_compile
        and _num_bytes(self.variables) <= _SMALL_BYTES
        # XLA makes convolutions several times slower on a CPU.
        and not observation_encoder.has_images(observation_spec)
    )
    run = self._sample if self.critic is None else self._candidates
    self._run = (
        xla.function(run) if is_small else tf.function(run, autograph=False)
    )

  def act(
      self,
      observation: types.Nest,
      seed: tf.Tensor,
      *,
      greedy: bool,
      samples: Optional[tf.Tensor] = None,
  ) -> tf.Tensor:
    """Draws chunks `[B, H * A]`.

    Args:
      observation: Nest of `[B, ...]`, raw.
      seed: `[2]` int32.
      greedy: Whether to take the best candidate or, without an optimizer, the
        policy's most likely action.
      samples: `[B, N, H * A]` of the policy to use instead of new ones.
    """
    if self.critic is None:
      if samples is not None:
        return samples[:, 0]
      return self._run(observation, seed, greedy)
    return self.search.optimizer.select(
        self._run(observation, seed, samples),
        randomness.fold_in(seed, 'select', 'act'),
        greedy,
    )

  def temperature(self, greedy: bool) -> float:
    """Returns the temperature of samples: 0 for the most likely action."""
    return 0.0 if greedy and self.critic is None else self.search.temperature

  def _candidates(self, observation, seed, samples):
    return state_actions.StateActions(
        self.search,
        self.policy,
        self.critic,
        observation,
        seed,
        samples=samples,
    ).candidates()

  def _sample(self, observation, seed, greedy):
    actions = self.policy.sample(
        observation,
        1,
        randomness.fold_in(seed, 'act'),
        temperature=self.temperature(greedy),
    )
    return actions[:, 0]


def _num_bytes(variables):
  return sum(v.shape.num_elements() * v.dtype.size for v in variables)
