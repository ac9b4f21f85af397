"""The policy that acts: sample, search, select."""

from typing import Callable, Optional

import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts

from parl_tf import randomness
from parl_tf.agents import acting_state
from parl_tf.search import acting_search


class PARLPolicy(tf_policy.TFPolicy):
  """Samples pi_opt (4.3) of PA-RL, or the base policy without an optimizer.

  The policy state holds the seed of the next draw and the rest of the current
  chunk. An episode is therefore a function of its initial seed, also after
  export.

  Attributes:
    acting_state: The policy state.
    chunk_length: H, the number of actions in a chunk.
    compiled_act: `act` as a graph for batches of any size, which a live policy
      and its SavedModel share. TensorFlow rounds differently if the batch size
      is static. Where the critic is flat, the last bit may then decide which
      iterate of the gradient ascent is the best. If another process draws the
      samples, they are its third argument, `[B, N, H * A]`.
  """

  def __init__(
      self,
      time_step_spec: ts.TimeStep,
      action_spec: tf.TensorSpec,
      search: acting_search.ActingSearch,
      selection: Optional[str] = None,
      chunk_length: int = 1,
      name: str = 'parl_policy',
  ):
    """Initializes the policy; traces nothing yet.

    Args:
      time_step_spec: Spec of raw observations.
      action_spec: Spec of the action of one step, `[A]` in [-1, 1].
      search: The action search, which several policies may share.
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
    self._search = search
    self._greedy = (
        search.search.is_greedy if selection is None else selection == 'argmax'
    )
    signature = [
        tf.nest.map_structure(
            lambda spec: tf.TensorSpec(
                [None, *spec.shape], spec.dtype, spec.name
            ),
            time_step_spec.observation,
        ),
        randomness.SEED_SPEC,
    ]
    run: Callable[..., tf.Tensor] = self._act
    if self.is_served:
      size = chunk_length * action_spec.shape[-1]
      signature.append(
          tf.TensorSpec([None, search.search.num_samples, size])
      )
      run = self._act_on_samples
    self.compiled_act = tf.function(
        run, input_signature=signature, autograph=False
    )
    self._initial_seed = tf.Variable(
        tf.zeros([2], tf.int32), trainable=False, name='initial_seed'
    )

  def set_seed(self, seed) -> None:
    """Sets the initial seed `[2]` int32 of the next episode."""
    self._initial_seed.assign(seed)

  def deployed(self) -> 'PARLPolicy':
    """Returns the policy to export; see `GenerativePolicy.deployed`."""
    shared = self._search
    policy = shared.policy.deployed()
    if policy is shared.policy:
      return self
    return PARLPolicy(
        self.time_step_spec,
        self.action_spec,
        acting_search.ActingSearch(
            shared.search,
            policy,
            shared.critic,
            self.time_step_spec.observation,
        ),
        'argmax' if self._greedy else 'sample',
        self.chunk_length,
    )

  @property
  def is_served(self) -> bool:
    """Whether another process draws the samples; `act` then runs eagerly."""
    return self._search.policy.is_served

  def act(self, observation, seed: tf.Tensor) -> tf.Tensor:
    """Draws chunks `[B, H * A]` for raw observations and a seed `[2]`."""
    if not self.is_served:
      return self.compiled_act(observation, seed)
    search = self._search.search
    samples = self._search.policy.sample(
        observation,
        search.num_samples,
        randomness.fold_in(seed, 'base', 0),  # As an action source does.
        temperature=self._search.temperature(self._greedy),
    )
    return self.compiled_act(observation, seed, samples)

  def _act(self, observation, seed):
    return self._search.act(observation, seed, greedy=self._greedy)

  def _act_on_samples(self, observation, seed, samples):
    return self._search.act(
        observation, seed, greedy=self._greedy, samples=samples
    )

  def _variables(self):
    return self._search.variables

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
