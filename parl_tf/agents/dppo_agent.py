"""Diffusion Policy Policy Optimization as a TF-Agents agent."""

from typing import Callable, NamedTuple, Optional, Tuple

import gin
import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.utils import common

from parl_tf import losses
from parl_tf import randomness
from parl_tf import types
from parl_tf.agents import clipped_surrogate
from parl_tf.agents import parl_agent
from parl_tf.agents import trained_part
from parl_tf.critics import state_value
from parl_tf.policies import denoising_chain


class Rollout(NamedTuple):
  """D decisions in each of P parallel environments.

  Attributes:
    observation: Nest of `[D, P, ...]`, raw, before each decision.
    next_observation: Nest of `[D, P, ...]`, raw, after each decision and before
      any reset.
    chain: Denoising steps that drew each decision, `[D, P, K, ...]`.
    reward: `[D, P]`, sum of gamma^k r_k over the steps of the decision, scaled.
    discount: `[D, P]`, gamma^(h - 1) times the product of the discounts of the
      decision's h steps. As with a single step, one factor gamma remains to be
      applied.
    is_last: `[D, P]` bool, whether the next decision belongs to another episode
      or does not exist.
  """

  observation: types.Nest
  next_observation: types.Nest
  chain: denoising_chain.Chain
  reward: tf.Tensor
  discount: tf.Tensor
  is_last: tf.Tensor


class _Rows(NamedTuple):
  """The R decisions of a rollout `[R, ...]`, with the targets to fit."""

  observation: types.Nest
  chain: denoising_chain.Chain
  advantage: tf.Tensor
  value_target: tf.Tensor


@gin.configurable(denylist=['spec', 'critic', 'policy', 'optimizers'])
class DPPOAgent(tf_agent.TFAgent):
  """Applies PPO to the denoising steps of a diffusion policy (DPPO).

  Implements Ren et al. (2024), arXiv:2409.00588. Each decision in the
  environment consists of K denoising steps, which are Gaussian decisions
  themselves and share its advantage A(s, a); see `ClippedSurrogate`. The
  baseline of A(s, a) depends only on the environment's state. Behavior cloning
  and the deployed policies are those of a `PARLAgent` without a critic.

  Exploration uses the trained weights. Evaluation and export use their average,
  which follows every update. Fine-tuning also starts from the average. Updates
  on a rollout do not shift images, unlike those of a `PARLAgent`.

  A training step trains the parts that have rows: `Experience.cloning` trains
  the policy as in `PARLAgent`, a `Rollout` in `Experience.rollout` trains the
  policy and its baseline, and a `Rollout` in `Experience.baseline_rollout`
  trains only the baseline. A training step on a rollout runs all its epochs.
  """

  critic = None  # None of actions, as in a `PARLAgent` without one.

  def __init__(
      self,
      spec: types.ModelSpec,
      critic: state_value.StateValue,
      policy,
      *,
      optimizers: parl_agent.Optimizers,
      policy_optimizer: Optional[tf.keras.optimizers.Optimizer] = None,
      surrogate_ctor: Callable[..., clipped_surrogate.ClippedSurrogate] = (
          clipped_surrogate.ClippedSurrogate
      ),
      gae_lambda: float = 0.95,
      num_epochs: int = 10,
      minibatch_size: int = 5_600,
      target_kl: Optional[float] = None,
      **kwargs,
  ):
    """Initializes the agent and creates all variables.

    Args:
      spec: See `types.ModelSpec`; its seed is that of every draw.
      critic: The baseline V(s).
      policy: `DiffusionPolicy` of chunks `[H * A]`.
      optimizers: Optimizers of the baseline, the policy and pre-training.
      policy_optimizer: Replaces `optimizers.policy`, if given.
      surrogate_ctor: Makes the `ClippedSurrogate` of the policy.
      gae_lambda: lambda of the advantage estimates.
      num_epochs: Number of epochs per rollout.
      minibatch_size: Number of denoising steps per update, at most the whole
        rollout. Each epoch drops the remainder of its random order.
      target_kl: Stops after the epoch in which the mean estimated KL divergence
        from the acting policy exceeds this value; None runs all epochs.
      **kwargs: Arguments of `PARLAgent`.

    Raises:
      TypeError: If `critic` is not a `StateValue` or `policy` is not a
        `DiffusionPolicy`.
      ValueError: If a number is out of range, or the distribution strategy has
        several replicas.
    """
    num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if num_replicas > 1:
      raise ValueError(
          '`DPPOAgent` draws minibatches from the whole rollout and must be '
          f'trained on one device, got {num_replicas} devices.'
      )
    if not 0.0 <= gae_lambda <= 1.0:
      raise ValueError(f'`gae_lambda` must be in [0, 1], got {gae_lambda}.')
    if num_epochs < 1 or minibatch_size < 1:
      raise ValueError(
          '`num_epochs` and `minibatch_size` must be positive, got '
          f'{num_epochs} and {minibatch_size}.'
      )
    if target_kl is not None and target_kl <= 0.0:
      raise ValueError(f'`target_kl` must be positive, got {target_kl}.')
    if not isinstance(critic, state_value.StateValue):
      raise TypeError(
          f'`critic` must be a `StateValue`, got {type(critic).__name__}.'
      )
    tf.Module.__init__(self)
    if policy_optimizer is not None:
      optimizers = optimizers._replace(policy=policy_optimizer)
    self.value = critic
    self._surrogate = surrogate_ctor(policy)
    self._optimizers = optimizers
    optimizers.critic.build(critic.trainable_variables)
    self._seed = randomness.from_integer(spec.seed)
    self._gae_lambda = gae_lambda
    self._num_epochs = num_epochs
    self._minibatch_size = minibatch_size
    self._target_kl = target_kl
    self._cloner = parl_agent.PARLAgent(
        spec, None, policy, optimizers=optimizers, **kwargs
    )
    self.generative_policy = policy
    self.chunk_length = self._cloner.chunk_length
    self.num_frames = self._cloner.num_frames
    self.base_policy = self._cloner.base_policy
    # There is no action search.
    self.evaluation_policy = self.base_policy
    super().__init__(
        self.base_policy.time_step_spec,
        spec.action,
        self.base_policy,
        self.base_policy,
        train_sequence_length=None,
        training_data_spec=self._cloner.training_data_spec,
        train_step_counter=self._cloner.train_step_counter,
    )

  @property
  def checkpoint_items(self):
    """The trackable objects that a checkpoint saves, by name."""
    return dict(
        self._cloner.checkpoint_items,
        critic=self.value,
        critic_optimizer=self._optimizers.critic,
    )

  @property
  def named_policies(self):
    """The `PARLPolicy`s that a run exports, by name."""
    return self._cloner.named_policies

  @property
  def gamma(self) -> float:
    """Discount factor of the baseline."""
    return self.value.gamma

  def cloning_loss(self, rows, seed):
    """Computes the mean pre-training loss of rows `[B, 2, ...]`."""
    return self._cloner.cloning_loss(rows, seed)

  def begin_online(self) -> None:
    """Selects the learning rates of this phase."""
    for optimizer in (self._optimizers.critic, self._optimizers.policy):
      trained_part.begin_online(optimizer)

  def start_fine_tuning(self) -> None:
    """Sets the exploring weights to the average that was evaluated."""
    self._surrogate.chain.start_from_average()

  @common.function
  def draw(
      self, observation: types.Nest, seed: tf.Tensor
  ) -> Tuple[tf.Tensor, denoising_chain.Chain]:
    """Draws chunks `[P, H * A]` and the denoising steps that led to them."""
    return self._surrogate.chain.sample(observation, seed)

  def _initialize(self):
    """Does nothing: target and averaged networks start as exact copies."""

  def _train(self, experience, weights=None):
    if tf.nest.flatten(experience.cloning):
      return self._cloner.train(experience, weights)
    trains_policy = bool(tf.nest.flatten(experience.rollout))
    rollout = experience.rollout or experience.baseline_rollout
    seed = randomness.fold_in(self._seed, self.train_step_counter, 'rollout')
    rows, metrics = self._prepare(rollout)
    for epoch in range(self._num_epochs):
      updates = [
          self._update(rows, index, trains_policy)
          for index in self._minibatches(
              rows, randomness.fold_in(seed, epoch)
          )
      ]
      means = {
          name: tf.reduce_mean([x[name] for x in updates])
          for name in updates[0]
      }
      if self._is_too_far(means):
        break
    metrics.update(means)
    total = metrics['losses/value'] + metrics.get('losses/surrogate', 0.0)
    return tf_agent.LossInfo(total, metrics)

  def _is_too_far(self, metrics):
    if self._target_kl is None or 'policy/kl' not in metrics:
      return False
    return metrics['policy/kl'] > self._target_kl

  @common.function
  def _prepare(self, rollout):
    """Estimates the advantages and the value targets of the decisions."""
    size = rollout.reward.shape.num_elements()

    def join(x):
      return tf.reshape(x, [size, *x.shape[2:]])  # [D, P] -> [D P]

    observation, next_observation = (
        tf.nest.map_structure(join, x)
        for x in (rollout.observation, rollout.next_observation)
    )
    value = self.value(observation)
    advantage = join(
        losses.generalized_advantage(
            rollout.reward,
            rollout.discount,
            tf.reshape(value, rollout.reward.shape),
            tf.reshape(self.value(next_observation), rollout.reward.shape),
            rollout.is_last,
            self.gamma,
            self._gae_lambda,
        )
    )
    target = advantage + value
    metrics = {
        'values/mean': tf.reduce_mean(value),
        'values/target': tf.reduce_mean(target),
        'values/advantage': tf.reduce_mean(advantage),
    }
    chain = tf.nest.map_structure(join, rollout.chain)
    advantage -= tf.reduce_mean(advantage)
    advantage /= tf.math.reduce_std(advantage) + 1e-8
    return _Rows(observation, chain, advantage, target), metrics

  @common.function
  def _minibatches(self, rows, seed):
    """Shuffles all denoising steps into minibatches.

    Args:
      rows: `_Rows`.
      seed: `[2]` int32.

    Returns:
      `[num_minibatches, minibatch_size]` int32 indices of denoising steps.
    """
    total = rows.chain.log_probs.shape.num_elements()
    size = min(self._minibatch_size, total)
    count = total // size
    order = tf.argsort(randomness.uniform(seed, [total]), stable=True)
    return tf.reshape(order[: count * size], [count, size])

  @common.function
  def _update(self, rows, index, trains_policy):
    """Takes a gradient step of the baseline and, optionally, of the policy."""
    variables = self.value.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(variables)
      value_loss = tf.reduce_mean(self._value_loss(rows, index))
    self._apply('critic', value_loss, variables, tape)
    metrics = {'losses/value': value_loss}
    if trains_policy:
      variables = self.generative_policy.trainable_variables
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        loss = self._policy_loss(rows, index)
        total = tf.reduce_mean(loss.per_example)
      self._apply('policy', total, variables, tape)
      self.generative_policy.update_average()
      metrics.update(loss.metrics)
    self.train_step_counter.assign_add(1)
    return metrics

  def _policy_loss(self, rows, index) -> types.ImproverLoss:
    decision, column, t = self._split(rows, index)
    steps = tf.nest.map_structure(
        lambda x: tf.gather_nd(x, tf.stack([decision, column], axis=1)),
        rows.chain,
    )
    return self._surrogate(
        _gather(rows.observation, decision),
        steps,
        t,
        tf.gather(rows.advantage, decision),
    )

  def _value_loss(self, rows, index):
    decision, _, _ = self._split(rows, index)
    error = tf.gather(rows.value_target, decision) - self.value(
        _gather(rows.observation, decision)
    )
    # In units of the network's output, independent of the scale of returns.
    return tf.square(error / self.value.scale)

  def _split(self, rows, index):
    """Returns the decision, column and denoising step of indices `[B]`."""
    num_columns = rows.chain.log_probs.shape[1]
    column = index % num_columns
    return index // num_columns, column, num_columns - 1 - column

  def _apply(self, name, total, variables, tape):
    tf.debugging.check_numerics(total, f'The {name} loss is not finite.')
    gradients = tape.gradient(total, variables)
    optimizer = getattr(self._optimizers, name)
    optimizer.apply_gradients(zip(gradients, variables))


def _gather(nest, index):
  return tf.nest.map_structure(lambda x: tf.gather(x, index), nest)
