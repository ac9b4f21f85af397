"""Policy-Agnostic RL as a TF-Agents agent."""

import functools
from typing import NamedTuple, Optional

import gin
import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.utils import common

from parl_tf import randomness
from parl_tf import types
from parl_tf.agents import gradient_step
from parl_tf.agents import parl_policy
from parl_tf.agents import picture_shift
from parl_tf.search import action_source

POLICY_INFO_SPEC = {
    'monte_carlo_return': tf.TensorSpec([], tf.float32),
    'episode_id': tf.TensorSpec([], tf.int64),
    'step_index': tf.TensorSpec([], tf.int32),
    'policy_version': tf.TensorSpec([], tf.int64),
    'success': tf.TensorSpec([], tf.bool),
}
"""What a stored step carries besides the trajectory (DESIGN: replay)."""

# Imitation that is filtered by return needs one.
_GAMMA_WITHOUT_CRITIC = 0.99


class Optimizers(NamedTuple):
  """The agent's optimizers; the policy's differ by phase."""

  critic: tf.keras.optimizers.Optimizer
  policy: tf.keras.optimizers.Optimizer
  pretrain: tf.keras.optimizers.Optimizer


class Searches(NamedTuple):
  """Settings of the action search in training, acting and evaluation."""

  training: action_source.Search
  acting: action_source.Search
  evaluation: action_source.Search


@gin.configurable(
    denylist=['time_step_spec', 'action_spec', 'critic', 'policy', 'seed',
              'train_step_counter']
)
class PARLAgent(tf_agent.TFAgent):
  """A critic, a policy, an action search and a policy improver.

  Algorithms 1 and 2 of Mark et al. (2024), arXiv:2412.06685. An experience
  holds rows for the critic, the policy and cloning; what it has rows for is
  what is trained.
  """

  def __init__(
      self,
      time_step_spec: ts.TimeStep,
      action_spec: tf.TensorSpec,
      critic,
      policy,
      *,
      improver,
      pretrain_improver,
      optimizers: Optimizers,
      searches: Searches,
      seed: int,
      critic_utd: int = 1,
      policy_utd: int = 1,
      chunk_length: int = 1,
      picture_padding: int = 4,
      train_step_counter: Optional[tf.Variable] = None,
  ):
    """Initializes the agent; every variable exists afterwards.

    Args:
      time_step_spec: Spec of raw observations and scaled rewards.
      action_spec: Spec of the action of one step, `[A]` in [-1, 1].
      critic: `Critic` of chunks `[H * A]`, or None where nothing needs one.
      policy: `GenerativePolicy` of such chunks.
      improver: Policy improver of the online phase; None where the policy is
        fixed.
      pretrain_improver: Policy improver of behaviour cloning.
      optimizers: One each for critic, policy and pre-training.
      searches: Action search of training, acting and evaluation.
      seed: Integer seed of every draw.
      critic_utd: Critic updates a training step.
      policy_utd: Policy updates a training step; without an improver there are
        none.
      chunk_length: H, the actions that are drawn at once.
      picture_padding: Pixels by which losses see pictures shifted at most, s
        and s' alike; 0 shifts none.
      train_step_counter: Counts training steps; the global step if None.

    Raises:
      ValueError: If a number is out of range, or the critic reads ends off
        rewards that are sums over chunks.
    """
    if critic_utd < 1 or policy_utd < 1:
      raise ValueError(
          '`critic_utd` and `policy_utd` must be positive, got '
          f'{critic_utd} and {policy_utd}.'
      )
    if picture_padding < 0:
      raise ValueError(
          f'`picture_padding` must not be negative, got {picture_padding}.'
      )
    if chunk_length > 1 and critic is not None and critic.terminals_from_reward:
      raise ValueError(
          '`Critic.terminals_from_reward` must be False with chunks: the sum '
          'of their rewards does not tell whether the task ended.'
      )
    tf.Module.__init__(self)
    self.critic = critic
    self.generative_policy = policy
    self._improver = improver
    self._pretrain_improver = pretrain_improver
    self._searches = searches
    self._picture_padding = picture_padding
    self._seed = tf.constant([seed & 0x7FFFFFFF, seed >> 31], tf.int32)
    self.critic_utd = critic_utd if critic is not None else 0
    self.policy_utd = policy_utd if improver is not None else 0
    self.chunk_length = chunk_length
    self._optimizers = optimizers
    self._build_optimizers()
    make = functools.partial(
        parl_policy.PARLPolicy,
        time_step_spec,
        action_spec,
        policy,
        critic,
        chunk_length=chunk_length,
    )
    self.greedy_policy = make(searches.evaluation, selection='argmax')
    self.evaluation_policy = make(searches.evaluation)
    self.base_policy = make(searches.evaluation.without_search())
    collect_policy = make(searches.acting)
    trajectory_spec = collect_policy.trajectory_spec._replace(
        policy_info=POLICY_INFO_SPEC
    )
    if chunk_length > 1:
      chunk_spec = tf.TensorSpec([chunk_length * action_spec.shape[0]])
      trajectory_spec = trajectory_spec._replace(
          action=chunk_spec,
          policy_info=dict(POLICY_INFO_SPEC, action_mask=chunk_spec),
      )
    super().__init__(
        time_step_spec,
        action_spec,
        make(searches.evaluation, selection='sample'),
        collect_policy,
        train_sequence_length=2,
        training_data_spec=types.Experience(
            trajectory_spec, trajectory_spec, trajectory_spec
        ),
        train_step_counter=train_step_counter,
    )

  @property
  def checkpoint_items(self):
    """What a checkpoint must hold to go on: a dict of trackables."""
    items = dict(
        generative_policy=self.generative_policy,
        pretrain_improver=self._pretrain_improver,
        policy_optimizer=self._optimizers.policy,
        pretrain_optimizer=self._optimizers.pretrain,
        train_step=self.train_step_counter,
    )
    if self.critic is not None:
      items.update(
          critic=self.critic, critic_optimizer=self._optimizers.critic
      )
    if self._improver is not None:
      items.update(improver=self._improver)
    return items

  @property
  def named_policies(self):
    """The policies that a run exports: a dict of `PARLPolicy`."""
    return {
        'policy': self.policy,
        'greedy_policy': self.greedy_policy,
        'base_policy': self.base_policy,
    }

  @property
  def acting_variables(self):
    """The variables of the policies that act, each once."""
    policies = (self.collect_policy, self.evaluation_policy, self.base_policy)
    found = {v.ref(): v for policy in policies for v in policy.variables()}
    return tuple(found.values())

  @property
  def gamma(self) -> float:
    """Discount factor of the critic, the usual one without a critic."""
    return _GAMMA_WITHOUT_CRITIC if self.critic is None else self.critic.gamma

  @property
  def searches(self) -> Searches:
    """Settings of the action search."""
    return self._searches

  def reset_optimizers(self) -> None:
    """Sets moments and iteration counts of the online optimizers to 0."""
    optimizers = [self._optimizers.policy]
    if self.critic is not None:
      optimizers.append(self._optimizers.critic)
    for optimizer in optimizers:
      learning_rate = optimizer._learning_rate  # pylint: disable=protected-access
      for variable in optimizer.variables:
        if variable is not learning_rate:
          variable.assign(tf.zeros_like(variable))

  def _initialize(self):
    """Does nothing: networks and their copies are equal from the start."""

  def _train(self, experience, weights=None):
    """Updates the critic slice by slice, then the policy (Algorithm 2)."""
    seed = randomness.fold_in(self._seed, self.train_step_counter)
    total = 0.0
    metrics = {}
    for i, rows in enumerate(self._slices(experience.critic, self.critic_utd)):
      loss, metrics_ = gradient_step.run(
          self._update_critic,
          rows,
          randomness.fold_in(seed, 'critic', i),
          weights,
      )
      total += loss
      metrics.update(metrics_)
    for i, rows in enumerate(self._slices(experience.policy, self.policy_utd)):
      loss, metrics_ = gradient_step.run(
          self._update_policy,
          rows,
          randomness.fold_in(seed, 'policy', i),
          weights,
      )
      total += loss
      metrics.update(metrics_)
    for rows in self._slices(experience.cloning, 1):
      loss, metrics_ = gradient_step.run(
          self._clone, rows, randomness.fold_in(seed, 'cloning'), weights
      )
      total += loss
      metrics.update(metrics_)
    self.train_step_counter.assign_add(1)
    return tf_agent.LossInfo(total, self._replica_share(metrics))

  def _loss(self, experience, weights=None, training=False):
    """Critic loss on the first slice + improver losses; changes no state."""
    del training  # Dropout belongs to the loss and follows the seed.
    seed = randomness.fold_in(self._seed, self.train_step_counter)
    total = 0.0
    metrics = {}
    parts = [
        (experience.critic, self.critic_utd, 'critic', self._critic_loss),
        (experience.policy, self.policy_utd, 'policy', self._policy_loss),
        (experience.cloning, 1, 'cloning', self._cloning_loss),
    ]
    for rows, num_slices, name, loss_fn in parts:
      for first in self._slices(rows, num_slices)[:1]:
        data = (seed, name) if name == 'cloning' else (seed, name, 0)
        loss = loss_fn(first, randomness.fold_in(*data))
        total += gradient_step.mean_loss(loss.per_example, weights)
        metrics.update(loss.metrics)
    return tf_agent.LossInfo(total, self._replica_share(metrics))

  @common.function
  def _update_critic(self, rows, seed, weights):
    loss, total = gradient_step.take(
        'critic',
        self._critic_loss,
        rows,
        seed,
        weights,
        self.critic.trainable_variables,
        self._optimizers.critic,
    )
    self.critic.update_targets()
    return total, loss.metrics

  @common.function
  def _update_policy(self, rows, seed, weights):
    loss, total = gradient_step.take(
        'policy',
        self._policy_loss,
        rows,
        seed,
        weights,
        self._policy_variables(self._improver),
        self._optimizers.policy,
    )
    self.generative_policy.update_average()
    self._improver.update(loss.metrics)
    return total, loss.metrics

  @common.function
  def _clone(self, rows, seed, weights):
    loss, total = gradient_step.take(
        'cloning',
        self._cloning_loss,
        rows,
        seed,
        weights,
        self._policy_variables(self._pretrain_improver),
        self._optimizers.pretrain,
    )
    self.generative_policy.update_average()
    self._pretrain_improver.update(loss.metrics)
    return total, loss.metrics

  @common.function
  def cloning_loss(self, rows, seed):
    """Returns the mean pre-training loss of rows `[B, 2, ...]`, no update."""
    return tf.reduce_mean(self._cloning_loss(rows, seed).per_example)

  def _critic_loss(self, rows, seed, tape=None):
    transition, source = self._bind(rows, seed, tape)
    if self._improver is not None:
      transition = self._improver.augment_reward(
          transition, self.critic, source
      )
    return self.critic.loss(transition, source, seed)

  def _policy_loss(self, rows, seed, tape=None):
    transition, source = self._bind(rows, seed, tape)
    return self._improver.loss(
        transition, self.generative_policy, self.critic, source, seed
    )

  def _cloning_loss(self, rows, seed, tape=None):
    transition, source = self._bind(rows, seed, tape)
    return self._pretrain_improver.loss(
        transition, self.generative_policy, self.critic, source, seed
    )

  def _bind(self, rows, seed, tape):
    """Makes the transition `[B, ...]` of rows `[B, 2, ...]`, and its source."""
    info = dict(rows.policy_info)
    samples = info.pop('candidate_actions', None)
    rows = rows._replace(policy_info=info)
    transition = tf.nest.map_structure(
        lambda x: tf.squeeze(x, axis=1), trajectory.to_transition(rows)
    )
    source = action_source.ActionSource(
        self._searches.training,
        self.generative_policy,
        self.critic,
        transition.time_step.observation,
        seed,
        transition.next_time_step.observation,
        None if samples is None else samples[:, 0],
        None if samples is None else samples[:, 1],
        tape,
    )
    # Losses see pictures shifted, searches as they are.
    return picture_shift.shift(transition, seed, self._picture_padding), source

  def _slices(self, rows, num_slices):
    """Splits rows `[num_slices * B, ...]` into slices; none where `()`."""
    if not tf.nest.flatten(rows):
      return []
    size = rows.reward.shape[0]
    if num_slices == 1:
      return [rows]
    if size is None or size % num_slices:
      raise ValueError(
          f'{num_slices} updates a step need a static number of rows that is a '
          f'multiple of it, got {size}.'
      )
    size //= num_slices
    return [
        tf.nest.map_structure(lambda x: x[i * size : (i + 1) * size], rows)  # pylint: disable=cell-var-from-loop
        for i in range(num_slices)
    ]

  def _policy_variables(self, improver):
    own = () if improver is None else improver.trainable_variables
    return (*self.generative_policy.trainable_variables, *own)

  def _build_optimizers(self):
    if self.critic is not None:
      self._optimizers.critic.build(self.critic.trainable_variables)
    self._optimizers.policy.build(self._policy_variables(self._improver))
    self._optimizers.pretrain.build(
        self._policy_variables(self._pretrain_improver)
    )

  def _replica_share(self, metrics):
    """Divides means by the replicas, over which the learner sums."""
    count = tf.distribute.get_strategy().num_replicas_in_sync
    return {name: value / count for name, value in metrics.items()}
