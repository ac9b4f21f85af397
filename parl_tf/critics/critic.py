"""The critic protocol: an ensemble of action values and its target copy."""

import abc
from typing import Callable, Optional, Sequence, Tuple, Union

import gin
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf import value_distribution
from parl_tf.networks import ensemble
from parl_tf.networks import observation_encoder
from parl_tf.networks import slow_copy

CriticEnsemble = gin.external_configurable(
    ensemble.CriticEnsemble,
    module='parl_tf.networks.ensemble',
    denylist=[
        'feature_size', 'action_size', 'num_outputs', 'seed', 'initial_bias'
    ],
)

_DATA = 'data'
AGGREGATIONS = {'mean': tf.reduce_mean, 'min': tf.reduce_min}
"""Reductions over ensemble members, by name."""


class NumberByPhase:
  """A number that may change when the online phase begins.

  Compiled updates read the current value. No part of the module, and therefore
  not in checkpoints: the phase sets it.
  """

  def __init__(self, number: float, online: float):
    """Initializes the number.

    Args:
      number: Value before the online phase.
      online: Value in the online phase.
    """
    self._online = online
    self._variable = tf.Variable(number, trainable=False, dtype=tf.float32)

  def begin_online(self) -> None:
    """Switches to the value of the online phase."""
    self._variable.assign(self._online)

  def read(self) -> tf.Tensor:
    """Returns the current value."""
    return self._variable.read_value()


class ValueFunction:
  """Evaluates actions at a batch of states.

  Ranking, ascent, selection and losses all use this class. `__call__` applies
  the critic's aggregation over members.
  """

  def __init__(
      self,
      context: types.Nest,
      distribution: Optional[value_distribution.HLGauss],
      aggregate: Callable[..., tf.Tensor],
  ):
    """Initializes the function.

    Args:
      context: `ensemble.EnsembleContext`, or another layout of it.
      distribution: Converts outputs to values; None for scalar outputs.
      aggregate: Reduction over members, such as `tf.reduce_mean`.
    """
    self.context = context
    self._distribution = distribution
    self._aggregate = aggregate

  def __call__(self, actions: tf.Tensor) -> tf.Tensor:
    """Returns the aggregated values `[B, N]` of actions `[B, N, A]`."""
    return self._aggregate(self.members(actions), axis=0)

  def value_and_gradient(
      self, actions: tf.Tensor
  ) -> Tuple[tf.Tensor, tf.Tensor]:
    """Returns values `[B, N]` and their action gradient `[B, N, A]`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(actions)
      values = self(actions)
    return values, tape.gradient(values, actions)

  def members(self, actions: tf.Tensor) -> tf.Tensor:
    """Returns each member's values `[E, B, N]` of actions `[B, N, A]`."""
    return self.values(self.outputs(actions))

  def outputs(self, actions: tf.Tensor) -> tf.Tensor:
    """Returns raw outputs `[E, B, N, bins]`; bins = 1 for scalar critics."""
    tf.debugging.assert_shapes(
        [(actions, ('B', 'N', 'A'))], message='Actions must be [B, N, A]'
    )
    return self.context(actions)

  def values(self, outputs: tf.Tensor) -> tf.Tensor:
    """Converts outputs `[..., bins]` to values `[...]`."""
    if self._distribution is None:
      return tf.squeeze(outputs, axis=-1)
    return self._distribution.mean(outputs)

  @property
  def static(self):
    """The parts that are not tensors: distribution and aggregation."""
    return self._distribution, self._aggregate


@gin.configurable(denylist=['spec'])
class Critic(tf.Module, abc.ABC):
  """Base class of critics: an ensemble of E members and its target copy.

  Subclasses implement `loss` and `advantage`.

  Attributes:
    draws_actions: Whether `loss` uses actions of the policy.
    reads_densities: Whether it uses their densities, if the policy has one.
    num_backup_actions: Number of next actions of which the target backs up the
      best; None for all that the search draws.
    starts_from_data: Whether `start_at` should get the mean value of the data.
  """

  draws_actions = True
  reads_densities = False
  num_backup_actions: Optional[int] = 1

  def __init__(
      self,
      spec: types.ModelSpec,
      *,
      network_ctor: Callable[..., ensemble.CriticEnsemble] = CriticEnsemble,
      distribution_ctor: Optional[
          Callable[[Optional[types.ValueRange]], value_distribution.HLGauss]
      ] = None,
      value_aggregation: str = 'mean',
      num_target_members: Optional[int] = 2,
      distinct_target_members: bool = False,
      gamma: float = 0.99,
      tau: float = 0.005,
      squared_error_factor: float = 1.0,
      terminals_from_reward: bool = False,
      initial_value: Union[float, str, None] = None,
  ):
    """Initializes the ensemble and a target copy with the same weights.

    Args:
      spec: See `types.ModelSpec`.
      network_ctor: Makes an `ensemble.CriticEnsemble`.
      distribution_ctor: Makes the HL-Gauss head, given the lowest and the
        highest return; None for scalar outputs and squared errors.
      value_aggregation: 'mean' or 'min' over members, for ranking, ascent and
        selection.
      num_target_members: M, the number of members drawn for the target and for
        a penalty; None uses all.
      distinct_target_members: Whether these differ, as in REDQ (Chen et al.,
        2021, arXiv:2101.05982), or are drawn with replacement, as in PA-RL.
      gamma: Discount factor.
      tau: Step size of the target towards the critic at every update.
      squared_error_factor: 1, or 1/2 as in the paper; scalar critics only.
      terminals_from_reward: Whether a step is terminal if its scaled reward is
        not negative, as in the released code, instead of by its discount. Not
        supported with chunks of actions.
      initial_value: Expected value before training, in units of return, or
        'data' for the mean value of the offline data, which a run passes to
        `start_at`. None leaves the head unbiased (0, or the center of the
        histogram).

    Raises:
      ValueError: If a number is out of range or an option is unknown.
    """
    super().__init__()
    if value_aggregation not in AGGREGATIONS:
      raise ValueError(
          f'`value_aggregation` must be one of {sorted(AGGREGATIONS)}, got '
          f'{value_aggregation!r}.'
      )
    if not 0.0 <= gamma <= 1.0:
      raise ValueError(f'`gamma` must be in [0, 1], got {gamma}.')
    if not 0.0 < tau <= 1.0:
      raise ValueError(f'`tau` must be in (0, 1], got {tau}.')
    if num_target_members is not None and num_target_members < 1:
      raise ValueError(
          f'`num_target_members` must be positive, got {num_target_members}.'
      )
    self._distinct_target_members = distinct_target_members
    if isinstance(initial_value, str) and initial_value != _DATA:
      raise ValueError(
          f"`initial_value` must be a number, '{_DATA}' or None, got "
          f'{initial_value!r}.'
      )
    self.starts_from_data = initial_value == _DATA
    self.gamma = gamma
    self.num_target_members = num_target_members
    self._tau = tau
    self._distribution = None
    if distribution_ctor is not None:
      if gamma == 1.0:
        raise ValueError('`gamma` must be below 1 with a histogram, got 1.')
      self._distribution = distribution_ctor(spec.value_range(gamma))
    self._aggregate = AGGREGATIONS[value_aggregation]
    self._squared_error_factor = squared_error_factor
    self.terminals_from_reward = terminals_from_reward
    self._initial_value = None if self.starts_from_data else initial_value
    self._network_ctor = network_ctor
    self._encoder = observation_encoder.ObservationEncoder(
        spec.observation, spec.normalization, spec.seed
    )
    self._target_encoder = self._encoder.make_slow_copy()
    num_outputs = (
        1 if self._distribution is None else self._distribution.num_bins
    )
    # Equal arguments, including the seed, give both networks equal weights.
    self._network, self._target_network = (
        network_ctor(
            self._encoder.size,
            spec.action_size,
            num_outputs,
            spec.seed,
            initial_bias=_initial_bias(self._distribution, self._initial_value),
        )
        for _ in range(2)
    )
    self._slow_copy = slow_copy.SlowCopy(
        (self._target_network, self._target_encoder),
        (self._network, self._encoder),
    )
    self._target_network.trainable = False

  def start_at(self, value: float) -> None:
    """Makes `value` the expected value of a critic that is not yet trained."""
    bias = _initial_bias(self._distribution, value)
    self._network.set_head_bias(bias)
    self._target_network.set_head_bias(bias)

  def begin_online(self) -> None:
    """Selects the settings of the online phase, if they differ."""

  @property
  def samples_both_states(self) -> bool:
    """Whether every loss needs the policy's samples at s and at s'.

    The agent then draws them before the loss.
    """
    return False

  @property
  def value_range(self) -> Optional[types.ValueRange]:
    """The lowest and highest value of a histogram; None for scalar outputs."""
    edges = self._distribution
    return None if edges is None else (edges.min_value, edges.max_value)

  @property
  def num_members(self) -> int:
    """E, the size of the ensemble."""
    return self._network.num_members

  @property
  def observation_encoders(
      self,
  ) -> Sequence[observation_encoder.ObservationEncoder]:
    """The encoders of the critic and its target; the same without images."""
    return self._encoder, self._target_encoder

  @property
  def trainable_variables(self) -> Sequence[tf.Variable]:
    """The variables that the critic's optimizer updates."""
    return (
        self._network.trainable_variables + self._encoder.trainable_variables
    )

  def encode(self, observation: types.Nest, target: bool = False) -> tf.Tensor:
    """Encodes observations as features `[B, F]`.

    Args:
      observation: Nest of `[B, ...]`, raw.
      target: Whether to encode images with the target copy.
    """
    encoder = self._target_encoder if target else self._encoder
    return encoder(observation)

  def bind(
      self,
      observation: types.Nest,
      target: bool = False,
      selection: Optional[tf.Tensor] = None,
  ) -> ValueFunction:
    """Encodes the observation once and returns its value function.

    Args:
      observation: Nest of `[B, ...]`, raw.
      target: Whether to use the target copy.
      selection: `[M, E]` one-hot rows of the members to use; None uses all.

    Returns:
      `value_fn(actions [B, N, A]) -> [B, N]`.
    """
    return self.bind_features(
        self.encode(observation, target), target, selection
    )

  def bind_features(
      self,
      features: tf.Tensor,
      target: bool = False,
      selection: Optional[tf.Tensor] = None,
  ) -> ValueFunction:
    """Returns the value function of features `[B, F]` from `encode`.

    A loss that uses the same states several times encodes them only once.
    """
    network = self._target_network if target else self._network
    context = network.context(features, selection)
    return ValueFunction(context, self._distribution, self._aggregate)

  def bind_target(
      self, observation: types.Nest, seed: tf.Tensor
  ) -> ValueFunction:
    """Returns the target copy's least value over the members that it draws.

    Args:
      observation: Nest of `[B, ...]`, raw.
      seed: `[2]` int32 seed of the members, `num_target_members` of them.
    """
    value_fn = self.bind(
        observation, target=True, selection=self._draw_members(seed)
    )
    return ValueFunction(
        value_fn.context, self._distribution, AGGREGATIONS['min']
    )

  @property
  def num_policy_actions(self) -> Optional[int]:
    """Number of actions of the policy that `loss` reads at a state at most.

    None, the default, for all that the search draws.
    """
    return None

  @abc.abstractmethod
  def loss(self, transition, source, seed: tf.Tensor) -> types.CriticLoss:
    """Computes the critic's loss; changes no state.

    Args:
      transition: TF-Agents `Transition` of `[B, ...]`, with scaled rewards.
      source: `ActionSource` of the batch.
      seed: `[2]` int32.

    Returns:
      Per-example loss `[B]` and metrics.
    """

  @abc.abstractmethod
  def advantage(self, observation, action, source, seed) -> tf.Tensor:
    """Computes the advantage `[B]` of actions `[B, A]` over the policy."""

  def update_targets(self) -> None:
    """Moves the target copy a step `tau` towards the critic."""
    self._slow_copy.follow(self._target_step())

  def _target_step(self) -> Union[float, tf.Tensor]:
    """Returns the step size of the target at the next update."""
    return self._tau

  def _draw_members(self, seed) -> Optional[tf.Tensor]:
    """Draws one-hot rows `[M, E]` of members to use; None for all."""
    if self.num_target_members is None:
      return None
    draw = randomness.subset
    if self._distinct_target_members:
      draw = randomness.distinct_members
    return draw(seed, self.num_target_members, self.num_members)

  def _regression(self, outputs, target):
    """Computes the loss `[E, B]` of outputs `[E, B, bins]`, targets `[B]`."""
    if self._distribution is None:
      error = tf.squeeze(outputs, axis=-1) - target[tf.newaxis]
      return self._squared_error_factor * tf.square(error)
    return self._distribution.cross_entropy(outputs, target[tf.newaxis])

  def _discount(self, next_time_step):
    if not self.terminals_from_reward:
      return next_time_step.discount
    return tf.cast(next_time_step.reward < 0.0, tf.float32)


def _initial_bias(distribution, initial_value):
  if initial_value is None:
    return None
  if distribution is None:
    return np.array([initial_value])
  return distribution.wide_logits(initial_value)
