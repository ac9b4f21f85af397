"""A part of an agent that a training step updates, and its rows."""

from typing import Any, Callable, Optional, Sequence, Tuple, Union

import tensorflow as tf
from tf_agents.trajectories import trajectory
from tf_agents.utils import common

from parl_tf import randomness
from parl_tf import replicas
from parl_tf import types
from parl_tf.agents import image_shift
from parl_tf.search import action_source
from parl_tf.search import state_actions
from parl_tf.search import xla

Loss = Union[types.CriticLoss, types.ImproverLoss]


class TrainedPart:
  """Variables with their loss and optimizer.

  Attributes:
    name: Field of `Experience` that holds the part's rows.
    loss: Maps rows, a seed and, optionally, a tape to the loss.
  """

  def __init__(
      self,
      name: str,
      loss_fn: Callable[..., Loss],
      variables: Sequence[tf.Variable],
      optimizer: tf.keras.optimizers.Optimizer,
      *,
      purposes: Sequence[Tuple[Union[str, int], ...]],
      finish: Callable[..., None],
      prepare: Optional[Callable[..., types.Nest]] = None,
      jit_compile: bool = False,
  ):
    """Initializes the part and builds the optimizer.

    Args:
      name: Field of `Experience` that holds the part's rows.
      loss_fn: Maps rows, a seed `[2]` and a tape to a loss with `per_example`
        `[B]`. It stops the tape during computations without a gradient.
      variables: The variables to update.
      optimizer: Their optimizer. A schedule that counts training steps learns
        how many updates each of them has.
      purposes: For each update of a training step, the data to fold into its
        seed.
      finish: Called with the metrics of the loss after each gradient step.
      prepare: Maps the rows and the seed of an update to the rows of its
        gradient step; None if these are the same.
      jit_compile: Whether to run a gradient step as one XLA program.
    """
    self.name = name
    self.loss = loss_fn
    self._variables = tuple(variables)
    self._optimizer = optimizer
    self._purposes = tuple(purposes)
    self._finish = finish
    # Separate functions are traced once, although the learner traces its
    # training step twice.
    self._prepare = None if prepare is None else common.function(prepare)
    self._compiled = (
        xla.function(self._step) if jit_compile else common.function(self._step)
    )
    self._jit_compile = jit_compile
    rate: Any = getattr(optimizer, '_learning_rate', None)
    if hasattr(rate, 'set_updates_per_step'):
      rate.set_updates_per_step(len(self._purposes))
    optimizer.build(self._variables)

  @property
  def num_updates(self) -> int:
    """Returns the number of updates since the optimizer was last reset."""
    return int(self._optimizer.iterations.numpy())

  @property
  def learning_rate(self) -> float:
    """Returns the learning rate of the latest update."""
    return float(self._optimizer.learning_rate.numpy())

  def slices(
      self,
      experience: types.Experience,
      seed: tf.Tensor,
      weights: Optional[tf.Tensor] = None,
  ) -> Sequence[Tuple[types.Nest, tf.Tensor, Optional[tf.Tensor]]]:
    """Splits the part's rows by update and derives a seed for each.

    Args:
      experience: Rows `[num_updates * B, ...]`, in the order of the updates.
      seed: `[2]` int32 seed of the training step.
      weights: `[num_updates * B]` weights of the rows, or None.

    Returns:
      Rows, seed and weights of each update; empty if the part has no rows.

    Raises:
      ValueError: If the rows cannot be divided equally between the updates, or
        `weights` does not have one entry per row.
    """
    rows = getattr(experience, self.name)
    if not tf.nest.flatten(rows):
      return []
    size = rows.reward.shape[0]
    if weights is not None:
      weights = tf.convert_to_tensor(weights)
      if not weights.shape.is_compatible_with([size]):
        raise ValueError(
            f'`weights` must have one entry for each of the {size} rows of'
            f' `Experience.{self.name}`, got shape {weights.shape}.'
        )
    seeds = [randomness.fold_in(seed, *purpose) for purpose in self._purposes]
    if len(seeds) == 1:
      return [(rows, seeds[0], weights)]
    if size is None or size % len(seeds):
      raise ValueError(
          f'The number of rows for {len(seeds)} updates must be static and a '
          f'multiple of {len(seeds)} (the `utd` of the agent, and the `slices`'
          f' of an `ExperienceRequest`), got {size}.'
      )
    size //= len(seeds)
    parts = []
    for i, update_seed in enumerate(seeds):
      own = slice(i * size, (i + 1) * size)
      own_rows = tf.nest.map_structure(lambda x: x[own], rows)  # pylint: disable=cell-var-from-loop
      own_weights = None if weights is None else weights[own]
      parts.append((own_rows, update_seed, own_weights))
    return parts

  def update(
      self, rows: types.Nest, seed: tf.Tensor, weights: Optional[tf.Tensor]
  ) -> Tuple[tf.Tensor, types.Nest]:
    """Takes one compiled gradient step.

    Args:
      rows: Nest of `[B, ...]`.
      seed: `[2]` int32.
      weights: `[B]` weights of the examples, or None.

    Returns:
      This replica's share of the mean loss, and the metrics.

    Raises:
      tf.errors.InvalidArgumentError: If the loss is not finite.
    """
    if self._prepare is not None:
      rows = self._prepare(rows, seed)
    if replicas.are_several():
      # Replicas cannot exchange gradients inside a nested function, so the
      # caller's function includes the step.
      return self._step(rows, seed, weights)
    total, metrics = self._compiled(rows, seed, weights)
    if self._jit_compile:
      self._check(total)  # XLA ignores checks inside its programs.
    return total, metrics

  def _check(self, total):
    message = f'The {self.name} loss is not finite.'
    return tf.debugging.check_numerics(total, message)

  def _step(self, rows, seed, weights):
    # Record gradients of the updated variables only.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(self._variables)
      loss = self.loss(rows, seed, tape)
      total = mean_loss(loss.per_example, weights)
    check = self._check(total)
    gradients = tape.gradient(total, self._variables)
    # Keras warns of some that are missing, such as those of an optional head.
    if all(gradient is None for gradient in gradients):
      names = [x.name for x in self._variables[:1]]
      raise ValueError(
          f'The {self.name} loss depends on none of the variables that it must'
          f' train, such as {names}.'
      )
    gradients = replicas.sum_each(gradients)
    # A loss of NaN changes no weight, except in an XLA program.
    with tf.control_dependencies([check]):
      self._optimizer.apply_gradients(
          zip(gradients, self._variables), skip_gradients_aggregation=True
      )
    self._finish(loss.metrics)
    return total, loss.metrics


def begin_online(optimizer: Optional[tf.keras.optimizers.Optimizer]) -> None:
  """Selects the learning rate of the online phase, if it differs."""
  rate: Any = getattr(optimizer, '_learning_rate', None)
  if hasattr(rate, 'begin_online'):
    rate.begin_online()


class BoundRows:
  """Binds rows to the policy and critic that choose actions at their states.

  Attributes:
    draws_for_critic: Whether `with_samples` can serve the critic's updates:
      whether its loss needs the policy's samples at both states, without
      densities.
  """

  def __init__(
      self,
      search: action_source.Search,
      policy,
      critic,
      image_padding: int,
      *,
      for_critic: bool = False,
  ):
    """Initializes the object.

    Args:
      search: Settings of the search.
      policy: `GenerativePolicy` of chunks `[H * A]`.
      critic: `Critic` of chunks `[H * A]`, or None.
      image_padding: Maximum random shift in pixels of the images in losses.
      for_critic: Whether the losses are the critic's, which may read fewer
        samples than the search draws.

    Raises:
      ValueError: If the padding is negative.
    """
    if image_padding < 0:
      raise ValueError(
          f'`image_padding` must not be negative, got {image_padding}.'
      )
    if for_critic and critic is not None:
      number = critic.num_policy_actions
      if number and not (policy.draws_alike or search.optimize_targets):
        raise ValueError(
            f'The critic must read all samples of {type(policy).__name__},'
            f' whose two halves differ, got {number}: bind'
            ' `TDCritic.num_backup_actions = None`, or'
            ' `Search.optimize_targets = True`.'
        )
      search = search.for_loss(number)
    self._search = search
    self._arguments = search, policy, critic
    self._image_padding = image_padding
    # Cached samples have no densities.
    has_densities = policy.has_density and not search.optimize_targets
    self.draws_for_critic = (
        critic is not None and critic.samples_both_states and not has_densities
    )

  def bind(
      self,
      rows: trajectory.Trajectory,
      seed: tf.Tensor,
      tape: Optional[tf.GradientTape],
  ) -> Tuple[trajectory.Transition, state_actions.ActionSource]:
    """Returns the transition `[B, ...]` of the losses, and its actions.

    Args:
      rows: `[B, 2, ...]`, with or without cached samples.
      seed: `[2]` int32.
      tape: Tape that must not record the search, or None.
    """
    transition, source = self._source(rows, seed, tape)
    # Losses use shifted images; searches use the original ones.
    return image_shift.shift(transition, seed, self._image_padding), source

  def with_samples(
      self, rows: trajectory.Trajectory, seed: tf.Tensor
  ) -> trajectory.Trajectory:
    """Adds the policy's samples at s and s', unless the rows have cached ones.

    The graph of an update is then the same for drawn and for cached samples.

    Args:
      rows: `[B, 2, ...]`.
      seed: `[2]` int32.
    """
    samples = dict(rows.policy_info).get('candidate_actions')
    if samples is None:
      _, source = self._source(rows, seed, None)
      samples = tf.stack([source.here.base(), source.next.base()], axis=1)
    else:
      samples = self._chosen(samples, seed)
    info = dict(rows.policy_info, candidate_actions=samples)
    return rows._replace(policy_info=info)

  def _source(self, rows, seed, tape):
    info = dict(rows.policy_info)
    samples = info.pop('candidate_actions', None)
    if samples is not None:
      samples = self._chosen(samples, seed)
    rows = rows._replace(policy_info=info)
    transition: types.Nest = tf.nest.map_structure(
        lambda x: tf.squeeze(x, axis=1), trajectory.to_transition(rows)
    )
    source = state_actions.make_source(
        *self._arguments, transition, seed, samples=samples, tape=tape
    )
    return transition, source

  def _chosen(self, samples, seed):
    """Returns as many of the cached samples `[B, 2, N, A]` as a loss reads.

    Each visit of a state takes different ones; a fixed few would not represent
    the policy.
    """
    num_cached, num_samples = samples.shape[2], self._search.num_samples
    if self._search.optimize_targets or num_samples >= num_cached:
      return samples
    first = randomness.integers(
        randomness.fold_in(seed, 'cached samples'),
        tf.shape(samples)[:2],
        num_cached,
    )
    places = (first[..., tf.newaxis] + tf.range(num_samples)) % num_cached
    return tf.gather(samples, places, batch_dims=2)


def mean_loss(
    per_example: tf.Tensor, weights: Optional[tf.Tensor]
) -> tf.Tensor:
  """Returns this replica's share of the mean of a loss `[B]`."""
  return common.aggregate_losses(
      per_example_loss=per_example, sample_weight=weights
  ).total_loss
