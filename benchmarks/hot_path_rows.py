"""Rows of hot_path.py: the calls to time and the work each one does."""

import functools
import time
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import gin
import numpy as np
import tensorflow as tf

from benchmarks import hot_path_settings
from benchmarks import plain_reference
from parl_tf import randomness
from parl_tf import types
from parl_tf.binaries import configs
from parl_tf.replay import episode_writer
from parl_tf.replay import experience as experience_lib
from parl_tf.replay import memory_experience
from parl_tf.replay import reverb_experience
from parl_tf.replay import stored_step
from parl_tf.replay import tables
from parl_tf.search import action_source
from parl_tf.search import state_actions
from parl_tf.training import builder

NAMES = (
    'action_optimization',
    'diffusion_sampling',
    'critic_update_fresh',
    'critic_update_given',
    'critic_update_given_bfloat16',
    'distillation',
    'act_1',
    'act_16',
    'experience_memory',
    'experience_reverb',
)
"""Names of the rows."""

_NUM_EPISODES = 40
_EPISODE_STEPS = 100


class Row(NamedTuple):
  """A measurement: one call of `run` does its work `calls` times."""

  run: Callable[[], Any]
  gflop: float = 0.0
  reference: Optional[Callable[[], Any]] = None
  calls: int = 1


class HotPath:
  """The rows of one setting; `close` when done."""

  def __init__(
      self, setting: hot_path_settings.Setting, precision: str = 'float32'
  ):
    """Builds the agent and fills the tables.

    Args:
      setting: Sizes of the environment, batch and networks.
      precision: Precision of the search's matrix products.
    """
    gin.clear_config()
    configs.parse(
        setting.gin_files,
        [*setting.gin_bindings, f"Search.precision = '{precision}'"],
    )
    self._setting = setting
    self._counts = hot_path_settings.Counts(setting)
    self.agent = builder.build_agent(
        hot_path_settings.SpecsOnly(setting),
        None,
        0,
        tf.Variable(0, dtype=tf.int64),
    )
    self._generator = np.random.default_rng(0)
    for weight in self.agent.critic.trainable_variables:
      # Values must differ between actions, or the gradient ascent does nothing.
      scale = 1.0 / np.sqrt(max(weight.shape[1], 16))
      weight.assign_add(scale * self._normal(*weight.shape))
    self._seed = tf.constant([3, 5])
    self._num_samples = self.agent.searches.training.num_samples
    self._observation = tf.constant(
        self._normal(setting.batch_size, setting.observation_size)
    )
    self._samples = self._uniform(setting.batch_size, self._num_samples)
    self._server = None
    self.memory = memory_experience.MemoryExperience(
        seed=0, reward_scale=1.0, reward_bias=0.0
    )
    self._fill(self.memory)

  def rows(self) -> Dict[str, Callable[[], Row]]:
    """Returns a function to make each row, by name."""
    return {
        'action_optimization': self._action_optimization,
        'diffusion_sampling': self._diffusion_sampling,
        'critic_update_fresh': functools.partial(self._critic_update, False),
        'critic_update_given': functools.partial(self._critic_update, True),
        'distillation': self._distillation,
        'act_1': functools.partial(self._act, 1),
        'act_16': functools.partial(self._act, 16),
        'experience_memory': self._experience_memory,
        'experience_reverb': self._experience_reverb,
    }

  def half_precision_choices(self) -> Tuple[float, float, float, float]:
    """Returns how the search's choices change with bfloat16 products.

    Returns:
      Share of states with a different action (by more than 0.01 in some
      entry); mean and maximum loss of Q due to it; for comparison, the standard
      deviation of Q over the samples of a state.
    """
    optimizer = self.agent.searches.training.optimizer

    @tf.function(autograph=False)
    def compare(observation, samples):
      value_fn = self.agent.critic.bind(observation)
      actions = [
          action_source.Search(
              self._num_samples, optimizer, precision=precision
          ).optimize(samples, value_fn, None, self._seed).actions[:, :1]
          for precision in ('float32', 'bfloat16')
      ]
      exact, half = (value_fn(x)[:, 0] for x in actions)
      difference = tf.reduce_max(tf.abs(actions[0] - actions[1]), axis=[1, 2])
      changed = tf.reduce_mean(tf.cast(difference > 0.01, tf.float32))
      spread = tf.math.reduce_std(value_fn(samples), axis=1)
      lost = exact - half
      return (
          changed,
          tf.reduce_mean(lost),
          tf.reduce_max(lost),
          tf.reduce_mean(spread),
      )

    return tuple(float(x) for x in compare(self._observation, self._samples))

  def with_samples(self, rows):
    """Returns critic rows with random samples of both states."""
    info = dict(rows.policy_info)
    info['candidate_actions'] = tf.stack([self._samples] * 2, axis=1)
    return rows._replace(policy_info=info)

  def close(self) -> None:
    """Stops the replay server, if there is one."""
    if self._server is not None:
      self._server.stop()

  def _action_optimization(self):
    agent = self.agent

    @tf.function(autograph=False)
    def run(observation, samples):
      actions = state_actions.StateActions(
          agent.searches.training,
          agent.generative_policy,
          agent.critic,
          observation,
          self._seed,
          samples=samples,
      )
      return actions.candidates()

    @tf.function(autograph=False, jit_compile=True)
    def reference(observation, samples):
      return plain_reference.search(
          self._weights(), observation, samples, self._settings()
      )

    arguments = self._observation, self._samples
    return Row(
        functools.partial(run, *arguments),
        self._counts.search(),
        functools.partial(reference, *arguments),
    )

  def _diffusion_sampling(self):
    agent = self.agent
    run = tf.function(
        lambda observation: agent.searches.training.sample(
            agent.generative_policy, observation, self._seed
        ),
        autograph=False,
    )
    return Row(
        functools.partial(run, self._observation), self._counts.sampling()
    )

  def _critic_update(self, given):
    rows = self._rows('critic')
    if given:
      rows = self.with_samples(rows)
    counts = self._counts
    return Row(
        self._update('critic', rows),
        counts.critic_given() if given else counts.critic_fresh(),
        self._reference_update(self._rows('critic'), given),
    )

  def _reference_update(self, rows, given):
    agent, optimizer = self.agent, tf.keras.optimizers.Adam(3e-4)
    weights = self._weights()
    optimizer.build(weights)
    num_random = hot_path_settings.bound(
        'CalQLCritic.num_conservative_actions'
    )

    @tf.function(autograph=False, jit_compile=True)
    def update(rows, samples):
      observation, next_observation = (rows.observation[:, i] for i in (0, 1))
      members = randomness.integers(self._seed, [2], weights[0].shape[0])
      draws = plain_reference.Draws(
          samples if given else self._draw(observation),
          samples if given else self._draw(next_observation),
          randomness.uniform(
              self._seed,
              [samples.shape[0], num_random, samples.shape[-1]],
              -1.0,
              1.0,
          ),
          members,
          members,
      )
      batch = plain_reference.Batch(
          observation,
          rows.action[:, 0],
          rows.reward[:, 0],
          rows.discount[:, 0],
          next_observation,
          rows.policy_info['monte_carlo_return'][:, 0],
      )
      targets = list(agent.critic._target_network.variables)
      loss, target, gradients = plain_reference.critic_update(
          weights, targets, batch, draws, self._settings()
      )
      optimizer.apply_gradients(zip(gradients, weights))
      for slow, weight in zip(targets, weights):
        slow.assign_add(0.005 * (weight - slow))
      return loss, target

    return functools.partial(update, rows, self._samples)

  def _distillation(self):
    rows = self._rows('policy')
    return Row(
        self._update('policy', rows),
        self._counts.distillation(),
    )

  def _act(self, batch_size):
    act = self.agent.greedy_policy.act
    observation = self._observation[:batch_size]
    counts = self._counts
    return Row(
        functools.partial(act, observation, self._seed),
        counts.search(batch_size) + counts.sampling(batch_size),
        calls=20,
    )

  def _experience_memory(self):
    iterator = self.memory.iterate(0, 10_000, self._request())
    return Row(functools.partial(next, iterator), calls=50)

  def _experience_reverb(self):
    iterator = self._reverb().iterate(0, 10_000, self._request())
    return Row(functools.partial(next, iterator), calls=50)

  def waiting_share(self, source: str, num_steps: int) -> float:
    """Returns the share of an online turn spent waiting for rows.

    Args:
      source: 'memory' or 'reverb'.
      num_steps: Training steps of the turn.
    """
    experience = self.memory if source == 'memory' else self._reverb()

    # As in the learner, the loop takes rows inside the graph, not from Python.
    @tf.function(autograph=False)
    def turn(iterator):
      def step(i, waited, last):
        with tf.control_dependencies([last]):
          before = tf.timestamp()
        with tf.control_dependencies([before]):
          rows = next(iterator)
        with tf.control_dependencies(tf.nest.flatten(rows)):
          after = tf.timestamp()
        with tf.control_dependencies([after]):
          critic_loss, _ = self._update('critic', rows.critic)()
          policy_loss, _ = self._update('policy', rows.policy)()
        return i + 1, waited + after - before, critic_loss + policy_loss

      return tf.while_loop(
          lambda i, *_: i < num_steps,
          step,
          (0, tf.constant(0.0, tf.float64), 0.0),
          parallel_iterations=1,
      )[1]

    shares = []
    for _ in range(2):  # The first run compiles.
      start = time.perf_counter()
      iterator = experience.iterate(0, num_steps, self._request())
      waited = time.perf_counter() - start
      waited += float(turn(iterator))
      shares.append(waited / (time.perf_counter() - start))
    return shares[-1]

  def _reverb(self):
    if self._server is None:
      self._server = tables.ReplayServer(self._signature())
      self._fill(self._server)
    return reverb_experience.ReverbExperience(
        self._signature(),
        address=self._server.address,
        reward_scale=1.0,
        reward_bias=0.0,
    )

  def _draw(self, observation):
    return self.agent.generative_policy.sample(
        observation, self._num_samples, self._seed
    )

  def _weights(self):
    return list(self.agent.critic.trainable_variables)

  def _settings(self):
    distribution = self.agent.critic._distribution
    query = hot_path_settings.bound
    return plain_reference.Settings(
        distribution.edges,
        distribution._sigma,
        query('ActionOptimizer.num_candidates'),
        query('ActionOptimizer.num_gradient_steps'),
        query('ActionOptimizer.step_size'),
        self.agent.critic.gamma,
        query('CalQLCritic.conservative_weight'),
    )

  def _update(self, name, rows):
    """Returns a call of one compiled update."""
    [part] = [x for x in self.agent.trained_parts if x.name == name]
    return functools.partial(part.update, rows, self._seed, None)

  def _rows(self, part):
    return getattr(next(self.memory.iterate(0, 1, self._request())), part)

  def _request(self):
    batch_size = self._setting.batch_size
    return experience_lib.ExperienceRequest(
        critic_slices=1,
        critic_batch_size=batch_size,
        critic_offline_fraction=0.5,
        policy_slices=1,
        policy_batch_size=batch_size,
    )

  def _signature(self):
    return stored_step.signature(
        tf.TensorSpec([self._setting.observation_size], tf.float32),
        tf.TensorSpec([self._setting.action_size], tf.float32),
    )

  def _fill(self, sink):
    writer = episode_writer.EpisodeWriter(
        gamma=0.99,
        reward_scale=1.0,
        reward_bias=0.0,
        never_succeeds_value=None,
        sink=sink,
    )
    for i in range(_NUM_EPISODES):
      episode = types.Episode(
          observation=self._normal(
              _EPISODE_STEPS + 1, self._setting.observation_size
          ),
          action=self._uniform(_EPISODE_STEPS).numpy(),
          reward=-np.ones(_EPISODE_STEPS, np.float32),
          discount=np.ones(_EPISODE_STEPS, np.float32),
          success=np.zeros(_EPISODE_STEPS, np.bool_),
          episode_id=i,
      )
      for table in experience_lib.TABLE_NAMES:
        writer.write(table, episode)

  def _normal(self, *shape):
    return self._generator.standard_normal(shape, np.float32)

  def _uniform(self, *shape):
    shape = [*shape, self._setting.action_size]
    return tf.constant(self._generator.uniform(-1, 1, shape), tf.float32)
