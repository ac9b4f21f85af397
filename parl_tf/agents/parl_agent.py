"""Policy-Agnostic RL as a TF-Agents agent."""

import functools
from typing import NamedTuple, Optional

import gin
import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common

from parl_tf import randomness
from parl_tf import replicas
from parl_tf import types
from parl_tf.agents import experience_check
from parl_tf.agents import following_policy
from parl_tf.agents import parl_policy
from parl_tf.agents import trained_part
from parl_tf.search import acting_search
from parl_tf.search import action_source
from parl_tf.search import state_actions

POLICIES = ('policy', 'greedy_policy', 'base_policy')
"""The policies that an agent has by name."""

# Filtered behavior cloning needs returns, but has no critic.
_GAMMA_WITHOUT_CRITIC = 0.99


class Optimizers(NamedTuple):
  """The agent's optimizers; the policy's differ by phase."""

  critic: tf.keras.optimizers.Optimizer
  policy: tf.keras.optimizers.Optimizer
  pretrain: tf.keras.optimizers.Optimizer


class Searches(NamedTuple):
  """The action searches for training, acting and evaluation."""

  training: action_source.Search
  acting: action_source.Search
  evaluation: action_source.Search


@gin.configurable(
    denylist=['spec', 'critic', 'policy', 'train_step_counter', 'followers']
)
class PARLAgent(tf_agent.TFAgent):
  """Combines a critic, a policy, an action search and a policy improver.

  Implements Algorithms 1 and 2 of Mark et al. (2024), arXiv:2412.06685. The
  agent trains three parts: the critic, the policy, and the policy by behavior
  cloning. A training step updates the parts that have rows in its `Experience`.

  Attributes:
    trained_parts: The `TrainedPart`s in the order of their updates.
    critic_utd: Number of critic updates per training step.
    policy_utd: Number of policy updates per training step.
    chunk_length: H, the number of actions in a chunk.
    num_frames: Number of frames in each observation that the networks see.
  """

  def __init__(
      self,
      spec: types.ModelSpec,
      critic,
      policy,
      *,
      improver,
      pretrain_improver,
      optimizers: Optimizers,
      searches: Searches,
      critic_utd: int = 1,
      policy_utd: int = 1,
      image_padding: int = 4,
      train_step_counter: Optional[tf.Variable] = None,
      followers: Optional[following_policy.Followers] = None,
  ):
    """Initializes the agent and creates all variables.

    Args:
      spec: See `types.ModelSpec`; its seed is that of every draw.
      critic: `Critic` of chunks `[H * A]`, or None if no component needs it.
      policy: `GenerativePolicy` of chunks `[H * A]`.
      improver: Policy improver of the online phase, or None to keep the policy
        fixed.
      pretrain_improver: Policy improver for behavior cloning.
      optimizers: Optimizers of the critic, the policy and pre-training.
      searches: Action searches for training, acting and evaluation.
      critic_utd: Number of critic updates per training step.
      policy_utd: Number of policy updates per training step; ignored without an
        improver.
      image_padding: Maximum random shift in pixels of the images in losses,
        the same for s and s'; 0 disables shifts.
      train_step_counter: Counts training steps; the global step if None.
      followers: Policies that follow `policy` after each training step, if any.

    Raises:
      ValueError: If a number is out of range, or the critic infers terminal
        steps from rewards although these are sums over chunks.
    """
    if critic_utd < 1 or policy_utd < 1:
      raise ValueError(
          '`critic_utd` and `policy_utd` must be positive, got '
          f'{critic_utd} and {policy_utd}.'
      )
    has_chunks = spec.chunk_length > 1
    if has_chunks and critic is not None and critic.terminals_from_reward:
      raise ValueError(
          '`Critic.terminals_from_reward` must be False with chunks: the sum '
          "of a chunk's rewards does not show whether the task ended."
      )
    tf.Module.__init__(self)
    self.critic = critic
    self.generative_policy = policy
    self._improver = improver
    self._pretrain_improver = pretrain_improver
    self._searches = searches
    followers = followers or following_policy.Followers()
    self._followers = followers.by_name()
    targets, samples = (x.policy if x else policy for x in followers)
    bound = functools.partial(trained_part.BoundRows, searches.training)
    self._rows = bound(samples, critic, image_padding)
    self._critic_rows = bound(targets, critic, image_padding, for_critic=True)
    self._seed = randomness.from_integer(spec.seed)
    self.critic_utd = critic_utd if critic is not None else 0
    self.policy_utd = policy_utd if improver is not None else 0
    self.chunk_length = spec.chunk_length
    self.num_frames = spec.num_frames
    self._optimizers = optimizers
    self.trained_parts = self._make_trained_parts()
    time_step_spec = ts.time_step_spec(spec.observation)
    make = functools.partial(
        parl_policy.PARLPolicy,
        time_step_spec,
        spec.action,
        chunk_length=spec.chunk_length,
    )
    evaluation, acting, without_search = (
        acting_search.ActingSearch(search, policy, critic, spec.observation)
        for search in (
            searches.evaluation,
            searches.acting,
            searches.evaluation.without_search(),
        )
    )
    if searches.acting is searches.evaluation:
      acting = evaluation  # Compiled once.
    self.greedy_policy = make(evaluation, selection='argmax')
    self.evaluation_policy = (
        self.greedy_policy  # Compiled once.
        if searches.evaluation.is_greedy
        else make(evaluation)
    )
    self.base_policy = make(without_search)
    collect_policy = make(acting)
    policy_info = {
        name: tf.TensorSpec([], dtype)
        for name, dtype in types.POLICY_INFO_DTYPES.items()
    }
    trajectory_spec = collect_policy.trajectory_spec._replace(
        policy_info=policy_info
    )
    if has_chunks:
      chunk_spec = tf.TensorSpec([spec.action_size])
      trajectory_spec = trajectory_spec._replace(
          action=chunk_spec,
          policy_info=dict(policy_info, action_mask=chunk_spec),
      )
    super().__init__(
        time_step_spec,
        spec.action,
        make(evaluation, selection='sample'),
        collect_policy,
        train_sequence_length=2,
        training_data_spec=types.Experience(
            trajectory_spec, trajectory_spec, trajectory_spec
        ),
        train_step_counter=train_step_counter,
    )

  @property
  def checkpoint_items(self):
    """The trackable objects that a checkpoint saves, by name."""
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
    return dict(items, **self._followers)

  @property
  def named_policies(self):
    """The `PARLPolicy`s that a run exports, by name; none of a served one."""
    if self.generative_policy.is_served:
      return {}
    return {name: getattr(self, name) for name in POLICIES}

  @property
  def acting_variables(self):
    """The variables of all acting policies, without duplicates."""
    policies = (self.collect_policy, self.evaluation_policy, self.base_policy)
    found = {v.ref(): v for policy in policies for v in policy.variables()}
    return tuple(found.values())

  @property
  def gamma(self) -> float:
    """Discount factor of the critic; 0.99 without a critic."""
    return _GAMMA_WITHOUT_CRITIC if self.critic is None else self.critic.gamma

  @property
  def searches(self) -> Searches:
    """The action searches for training, acting and evaluation."""
    return self._searches

  def check_densities(self) -> None:
    """Raises a ValueError if a loss lacks densities that it reads."""
    reads = getattr(self.critic, 'reads_densities', False)
    if reads or (self._improver is not None and self._improver.adds_rewards):
      state_actions.check_densities(
          self.searches.training, self.generative_policy
      )

  def begin_online(self) -> None:
    """Selects the learning rates and the critic's settings of this phase."""
    for optimizer in (self._optimizers.critic, self._optimizers.policy):
      trained_part.begin_online(optimizer)
    if self.critic is not None:
      self.critic.begin_online()

  def reset_following_policies(self) -> None:
    """Copies the present policy to those that follow it."""
    for follower in self._followers.values():
      follower.reset()

  def reset_optimizers(self) -> None:
    """Resets moments and iteration counts of the online optimizers to 0."""
    optimizers = [self._optimizers.policy]
    if self.critic is not None:
      optimizers.append(self._optimizers.critic)
    for optimizer in optimizers:
      learning_rate = optimizer._learning_rate  # pylint: disable=protected-access
      for variable in optimizer.variables:
        if variable is not learning_rate:
          variable.assign(tf.zeros_like(variable))

  def _initialize(self):
    """Does nothing: target and averaged networks start as exact copies."""

  def _train(self, experience, weights=None):
    """Updates the critic slice by slice, then the policy (Algorithm 2)."""
    experience_check.check(experience, self.training_data_spec)
    seed = randomness.fold_in(self._seed, self.train_step_counter)
    total, metrics = 0.0, {}
    for part in self.trained_parts:
      for update in part.slices(experience, seed, weights):
        loss, part_metrics = part.update(*update)
        total += loss
        metrics.update(part_metrics)
    for follower in self._followers.values():
      follower.update()
    self.train_step_counter.assign_add(1)
    return tf_agent.LossInfo(total, replicas.share(metrics))

  def _loss(self, experience, weights=None, training=False):
    """Sums each part's loss on its first slice; changes no state."""
    del training  # Losses always apply dropout, drawn from the seed.
    seed = randomness.fold_in(self._seed, self.train_step_counter)
    total, metrics = 0.0, {}
    for part in self.trained_parts:
      for rows, update_seed, own in part.slices(experience, seed, weights)[:1]:
        loss = part.loss(rows, update_seed)
        total += trained_part.mean_loss(loss.per_example, own)
        metrics.update(loss.metrics)
    return tf_agent.LossInfo(total, replicas.share(metrics))

  @common.function
  def cloning_loss(self, rows, seed):
    """Computes the mean pre-training loss of rows `[B, 2, ...]`."""
    loss = self._improver_loss(self._pretrain_improver, rows, seed)
    return tf.reduce_mean(loss.per_example)

  @common.function
  def best_actions(self, observation, samples, dataset_action, seed):
    """Searches the actions that a policy of another process is to imitate.

    Args:
      observation: Nest of `[B, ...]`, raw.
      samples: `[B, N, H * A]` of the policy.
      dataset_action: `[B, H * A]`, which competes with them.
      seed: `[2]` int32.

    Returns:
      The best actions `[B, H * A]`, and how much their values exceed the mean
      value of the samples, `[B]`.
    """
    source = state_actions.StateActions(
        self._searches.training,
        self.generative_policy,
        self.critic,
        observation,
        seed,
        samples=samples,
    )
    candidates = source.candidates(dataset_action)
    values = self.critic.bind(observation)(samples)
    gain = candidates.values[:, 0] - tf.reduce_mean(values, axis=1)
    return candidates.actions[:, 0], gain

  def _make_trained_parts(self):
    """Makes the trained parts in the order of their updates."""
    parts = []
    if self.critic is not None:
      parts.append(
          trained_part.TrainedPart(
              'critic',
              self._critic_loss,
              self.critic.trainable_variables,
              self._optimizers.critic,
              purposes=[('critic', i) for i in range(self.critic_utd)],
              finish=lambda metrics: self.critic.update_targets(),
              prepare=(
                  self._critic_rows.with_samples
                  if self._critic_rows.draws_for_critic
                  else None
              ),
              jit_compile=self._searches.training.compiles_updates,
          )
      )
    if self._improver is not None:
      self._improver.check_policy(self.generative_policy)
      parts.append(
          self._make_policy_part(
              'policy',
              self._improver,
              self._optimizers.policy,
              [('policy', i) for i in range(self.policy_utd)],
          )
      )
    else:  # Checkpoints contain this optimizer in any case.
      self._optimizers.policy.build(self.generative_policy.trainable_variables)
    parts.append(
        self._make_policy_part(
            'cloning',
            self._pretrain_improver,
            self._optimizers.pretrain,
            [('cloning',)],
        )
    )
    return parts

  def _make_policy_part(self, name, improver, optimizer, purposes):
    """Makes a part that trains the policy with `improver`."""
    policy = self.generative_policy
    improver.check_critic(self.critic)

    def finish(metrics):
      improver.update_average(policy)
      improver.update(metrics)

    return trained_part.TrainedPart(
        name,
        functools.partial(self._improver_loss, improver),
        improver.trained_variables(
            policy.cloned if name == 'cloning' else policy
        ),
        optimizer,
        purposes=purposes,
        finish=finish,
        jit_compile=self._searches.training.compiles_updates,
    )

  def _critic_loss(self, rows, seed, tape=None):
    """Computes the critic's loss on rows `[B, 2, ...]`."""
    transition, source = self._critic_rows.bind(rows, seed, tape)
    if self._improver is not None:
      transition = self._improver.augment_reward(
          transition, self.critic, source
      )
    loss = self.critic.loss(transition, source, seed)
    total = tf.reduce_mean(loss.per_example)
    return types.CriticLoss(
        loss.per_example, {'losses/critic': total, **loss.metrics}
    )

  def _improver_loss(self, improver, rows, seed, tape=None):
    """Computes an improver's policy loss on rows `[B, 2, ...]`."""
    transition, source = self._rows.bind(rows, seed, tape)
    return improver.loss(
        transition, self.generative_policy, self.critic, source, seed
    )
