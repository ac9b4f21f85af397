"""The policy that acts: sample, search, select."""

from typing import Optional

import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts

from parl_tf import randomness
from parl_tf.agents import acting_state
from parl_tf.networks import observation_encoder
from parl_tf.search import action_source
from parl_tf.search import xla

# Weights up to this size fit in a core's cache. Launching the operations of
# such small networks costs more than their arithmetic, and XLA launches only
# once. Larger networks multiply matrices faster without XLA. Measured by
# benchmarks/hot_path.py.
_SMALL_BYTES = 2 * 2**20


class PARLPolicy(tf_policy.TFPolicy):
  """Samples pi_opt (4.3) of PA-RL, or the base policy without an optimizer.

  The policy state holds the seed of the next draw and the rest of the current
  chunk. An episode is therefore a function of its initial seed, also after
  export.
  """

  def __init__(
      self,
      time_step_spec: ts.TimeStep,
      action_spec: tf.TensorSpec,
      policy,
      critic,
      search: action_source.Search,
      selection: Optional[str] = None,
      chunk_length: int = 1,
      name: str = 'parl_policy',
  ):
    """Initializes the policy.

    Args:
      time_step_spec: Spec of raw observations.
      action_spec: Spec of the action of one step, `[A]` in [-1, 1].
      policy: `GenerativePolicy` of chunks `[H * A]`.
      critic: `Critic`, or None if the search has no optimizer.
      search: The action search.
      selection: 'argmax' or 'sample' to override the search's selection.
      chunk_length: H, the number of actions in a chunk.
      name: Name of the policy.
    """
    self.acting_state = acting_state.ActingState(
        action_spec.shape[-1], chunk_length
    )
    self.chunk_length = chunk_length
    super().__init__(
        time_step_spec,
        action_spec,
        policy_state_spec=self.acting_state.spec,
        clip=False,
        # A reset at the first step would replace the seed that the caller set.
        automatic_state_reset=False,
        name=name,
    )
    self._policy = policy
    self._critic = critic if search.optimizer is not None else None
    self._search = search
    self._greedy = (selection or ('argmax' if search.is_greedy else 'sample')
                   ) == 'argmax'
    self._act = self._search_action
    is_small = (
        search.jit_compile
        and _num_bytes(self.variables()) <= _SMALL_BYTES
        # XLA makes convolutions several times slower on a CPU.
        and not observation_encoder.has_images(time_step_spec.observation)
    )
    if is_small:
      self._act = xla.function(self._search_action)
    elif self.is_served:  # `act` is otherwise compiled by its caller.
      self._act = tf.function(self._search_action, autograph=False)
    self._initial_seed = tf.Variable(
        tf.zeros([2], tf.int32), trainable=False, name='initial_seed'
    )

  def set_seed(self, seed) -> None:
    """Sets the initial seed `[2]` int32 of the next episode."""
    self._initial_seed.assign(seed)

  def deployed(self) -> 'PARLPolicy':
    """Returns the policy to export; see `GenerativePolicy.deployed`."""
    policy = self._policy.deployed()
    if policy is self._policy:
      return self
    return PARLPolicy(
        self.time_step_spec,
        self.action_spec,
        policy,
        self._critic,
        self._search,
        'argmax' if self._greedy else 'sample',
        self.chunk_length,
    )

  @property
  def is_served(self) -> bool:
    """Whether another process draws the samples; `act` then runs eagerly."""
    return self._policy.is_served

  def act(self, observation, seed: tf.Tensor) -> tf.Tensor:
    """Draws chunks `[B, H * A]` for raw observations and a seed `[2]`."""
    if not self.is_served:
      return self._act(observation, seed)
    samples = self._policy.sample(
        observation,
        self._search.num_samples,
        randomness.fold_in(seed, 'base', 0),  # As an action source does.
        temperature=self._search.temperature,
    )
    return self._act(observation, seed, samples)

  def _search_action(self, observation, seed, samples=None):
    if self._search.optimizer is not None:
      actions = action_source.StateActions(
          self._search,
          self._policy,
          self._critic,
          observation,
          seed,
          samples=samples,
      )
      return actions.select(actions.candidates(), self._greedy, 'act')
    if samples is not None:
      return samples[:, 0]
    temperature = 0.0 if self._greedy else self._search.temperature
    actions = self._policy.sample(
        observation,
        1,
        randomness.fold_in(seed, 'act'),
        temperature=temperature,
    )
    return actions[:, 0]

  def _variables(self):
    variables = list(self._policy.variables)
    if self._critic is not None:
      variables += list(self._critic.variables)
    return variables

  def _get_initial_state(self, batch_size):
    return self.acting_state.initial(batch_size, self._initial_seed)

  def _action(self, time_step, policy_state, seed=None):
    action, state = self.acting_state.step(
        self.act, time_step, policy_state, seed
    )
    return policy_step.PolicyStep(action, state, ())

  def _distribution(self, time_step, policy_state):
    step = self._action(time_step, policy_state)
    return step._replace(action=Point(step.action))


def _num_bytes(variables):
  return sum(v.shape.num_elements() * v.dtype.size for v in variables)


class Point(tfp.distributions.Distribution):
  """A distribution with all probability on one action.

  Replaces `tfp.distributions.Deterministic`, which is a composite tensor: a
  SavedModel that refers to its type can be loaded only after TensorFlow
  Probability is imported.
  """

  def __init__(self, action: tf.Tensor):
    """Initializes the distribution.

    Args:
      action: `[B, A]`, the batch shape; each element is a scalar event.
    """
    super().__init__(
        action.dtype,
        tfp.distributions.FULLY_REPARAMETERIZED,
        validate_args=False,
        allow_nan_stats=True,
        parameters=dict(action=action),
    )
    self._action = action

  def _batch_shape(self):
    return self._action.shape

  def _batch_shape_tensor(self):
    return tf.shape(self._action)

  def _event_shape(self):
    return tf.TensorShape([])

  def _event_shape_tensor(self):
    return tf.constant([], tf.int32)

  def _sample_n(self, n, seed=None):
    del seed  # Every sample is the action.
    return tf.repeat(self._action[tf.newaxis], n, axis=0)

  def _mode(self):
    return self._action
