"""Evaluation: whole episodes of one policy, stepped as one batch.

An evaluation is a pure function of (domain, policy, seed): episode i starts in
the state that `episode_seed(seed, i)` gives, and decision t of all episodes is
drawn with `decision_seed(seed, t)`. The policy always sees the full batch, in
which finished episodes keep their last observation, so that a compiled policy
is traced once and its draws do not depend on which episodes have ended.

If a task has fewer environments than episodes, as a robot does, the episodes
are played in groups, one after another. Each group is then a batch.
"""

from concurrent import futures
from typing import (
    Any,
    Callable,
    Dict,
    List,
    Optional,
    Sequence,
)

import numpy as np
import tensorflow as tf

from parl_tf import episode_builder
from parl_tf import frame_stack
from parl_tf import types
from parl_tf.domains import closing
from parl_tf.domains import domain as domain_lib
from parl_tf.reports import run_files
from parl_tf.training import environment_check
from parl_tf.training import equal_starts
from parl_tf.training import evaluation_result
from parl_tf.training import finite_steps

_START_PURPOSE = 0
_DECISION_PURPOSE = 1
_CONTROLLER_PURPOSE = 2
_NUM_TRIED_STEPS = 5

Act = Callable[[types.Nest, np.ndarray], np.ndarray]
"""Maps a nest of `[B, ...]` and an int32 `[2]` seed to actions `[B, A]`.

A chunk of actions `[B, H, A]` is played to its end before the next call.
"""

Observer = Callable[[Sequence[object], np.ndarray, int], None]
"""Receives each episode's environment, a bool mask of running episodes and the
number of steps since their reset.

Episodes of different groups use the same environments at different times. A
group that loses an episode begins again with step 0.
"""

SPEED_METRICS = run_files.SPEED_METRICS
"""Metrics of an evaluation beside success rate and score."""


def episode_seed(seed: int, index: int) -> int:
  """Returns the environment seed of episode `index`, in [0, 2^31)."""
  return _integer_seed(seed, _START_PURPOSE, index)


def decision_seed(seed: int, step: int) -> np.ndarray:
  """Returns the int32 `[2]` seed of the draws of decision `step`."""
  state = np.random.SeedSequence(seed, spawn_key=(_DECISION_PURPOSE, step))
  return state.generate_state(2, np.uint32).view(np.int32)


class Evaluator:
  """Plays the same episodes with any number of policies.

  The first run makes the environments. They are seeded again before every
  episode, so that all runs have the same start states. If the domain has fewer
  than B environments, a lost episode repeats only its group.
  """

  def __init__(self, domain, *, num_episodes: int, seed: int):
    """Initializes the evaluator.

    Args:
      domain: A `parl_tf.domains.domain.Domain`.
      num_episodes: B, the number of episodes per run.
      seed: Non-negative; start states and draws are functions of it.

    Raises:
      ValueError: If `num_episodes` is not positive or `seed` is negative.
    """
    if num_episodes < 1:
      raise ValueError(f'`num_episodes` must be positive, got {num_episodes}.')
    if seed < 0:
      raise ValueError(f'`seed` must not be negative, got {seed}.')
    self._domain = domain
    self._num_episodes = num_episodes
    self._seed = seed
    self._environments: List[domain_lib.Environment] = []
    self._compiling: Dict[Any, futures.Future] = {}
    self._starts = equal_starts.EqualStarts()

  def run(
      self,
      act: Act,
      observer: Optional[Observer] = None,
      num_frames: int = 1,
      keep: Callable[[types.Episode], object] = lambda episode: None,
  ) -> evaluation_result.EvaluationResult:
    """Plays all episodes with `act`.

    Args:
      act: Called once per decision with the observations of all episodes of a
        group, or once per chunk of decisions.
      observer: Called after the resets and after every step.
      num_frames: Number of frames in each observation that `act` gets.
      keep: Called with each episode, once its group has ended.

    Returns:
      The episodes and their statistics, with single frames.

    Raises:
      ValueError: If an action has the wrong shape, is not finite or is outside
        [-1, 1], or an episode does not end.
    """

    def begin(first):
      chunk = np.zeros([len(self._environments), 0])

      def decide(step, time_steps, running):
        nonlocal chunk
        del running
        if not chunk.shape[1]:
          actions = act_on(step, time_steps)
          chunk = actions if actions.ndim == 3 else actions[:, np.newaxis]
        actions, chunk = chunk[:, 0], chunk[:, 1:]
        return actions

      def act_on(step, time_steps):
        observation = tf.nest.map_structure(
            lambda *rows: np.stack(rows), *[t.observation for t in time_steps]
        )
        # Each group has its own draws.
        step += first * self._domain.max_episode_steps
        return np.asarray(act(observation, decision_seed(self._seed, step)))

      return decide

    return self._play(begin, observer, num_frames, keep)

  def run_policy(
      self, policy, observer: Optional[Observer] = None
  ) -> evaluation_result.EvaluationResult:
    """Plays all episodes with a live policy.

    Args:
      policy: `PARLPolicy`; compiled on its first run.
      observer: As in `run`.

    Returns:
      The episodes and their statistics.
    """
    if policy in self._compiling:
      self._compiling.pop(policy).result()
    shape = [-1, policy.chunk_length, policy.action_spec.shape[0]]

    def act(observation, seed):
      observation = tf.nest.map_structure(tf.constant, observation)
      return policy.act(observation, tf.constant(seed)).numpy().reshape(shape)

    num_frames = frame_stack.count(
        policy.time_step_spec.observation, self._domain.observation_spec()
    )
    return self.run(act, observer, num_frames)

  def compile_ahead(self, policies: Sequence) -> None:
    """Compiles policies in the background, while the caller trains.

    `run_policy` waits for the result and raises what the compilation raised.

    Args:
      policies: `PARLPolicy`s that `run_policy` will evaluate.
    """
    executor = futures.ThreadPoolExecutor(max_workers=1)
    for policy in policies:
      if not policy.is_served:  # A server would be asked for actions.
        self._compiling[policy] = executor.submit(
            policy.act,
            tf.nest.map_structure(
                self._zeros, policy.time_step_spec.observation
            ),
            tf.zeros([2], tf.int32),
        )
    executor.shutdown(wait=False)

  def close(self) -> None:
    """Closes the environments; the next run makes new ones."""
    closing.close(self._domain, self._environments)
    self._environments = []

  @property
  def batch_size(self) -> int:
    """Number of episodes that are played at the same time."""
    limit = self._domain.max_environments or self._num_episodes
    return min(limit, self._num_episodes)

  def _zeros(self, spec):
    return tf.zeros([self.batch_size, *spec.shape], spec.dtype)

  def run_controller(self) -> Optional[evaluation_result.EvaluationResult]:
    """Plays all episodes with the domain's controller; None without one.

    Without one, random actions show whether an environment can be played.
    Domains that limit their environments, such as robots, are skipped.
    """
    self._make_environments()
    controllers = [self._domain.make_controller(e) for e in self._environments]
    if any(controller is None for controller in controllers):
      if self._domain.max_environments is None:
        domain_lib.act_until_kept(self._try_environment)
      return None

    def begin(first):
      for i, controller in enumerate(controllers, start=first):
        controller.reset(_integer_seed(self._seed, _CONTROLLER_PURPOSE, i))
      return decide

    def decide(step, time_steps, running):
      del step
      actions = np.zeros(
          (len(controllers),) + self._domain.action_spec().shape, np.float32
      )
      for i in np.flatnonzero(running):
        actions[i] = controllers[i].action(time_steps[i], self._environments[i])
      return actions

    return self._play(begin)

  def _try_environment(self):
    environment = self._environments[0]
    environment.seed(episode_seed(self._seed, 0))
    steps = finite_steps.FiniteSteps(0, environment)
    random = np.random.default_rng(self._seed)
    shape = self._domain.action_spec().shape
    with closing.abandoned_on_error([environment]):
      time_step = steps.see(environment.reset())
      for _ in range(_NUM_TRIED_STEPS):
        if time_step.last():
          break
        action = random.uniform(-1.0, 1.0, shape).astype(np.float32)
        time_step = steps.see(environment.step(action))
      if not time_step.last():
        environment.abandon()

  def _make_environments(self):
    if not self._environments:
      self._environments = [
          environment_check.make(
              self._domain, episode_seed(self._seed, i), evaluation=True
          )
          for i in range(self.batch_size)
      ]

  def _play(
      self, begin, observer=None, num_frames=1, keep=lambda episode: None
  ) -> evaluation_result.EvaluationResult:
    """Plays all groups.

    Args:
      begin: Called whenever a group begins, with the number of its first
        episode; returns the function that chooses the group's actions.
      observer: See `Observer`, or None.
      num_frames: Number of frames in each observation that the function
        gets.
      keep: Called with each episode.
    """
    self._make_environments()
    episodes = []
    # A smaller last group leaves the time steps of the previous group in the
    # other rows.
    time_steps = [None] * len(self._environments)
    histories = [frame_stack.FrameHistory(num_frames) for _ in time_steps]
    for first in range(0, self._num_episodes, len(self._environments)):
      with closing.abandoned_on_error(self._environments):
        group = domain_lib.act_until_kept(
            lambda: self._play_group(
                first, begin(first), time_steps, histories, observer
            )
        )
        for episode in group:
          keep(episode)
        episodes += group
    if self._domain.max_environments is None:  # A robot has no seed.
      self._starts.see(episodes)
    return evaluation_result.of_episodes(self._domain, episodes)

  def _play_group(self, first, decide, time_steps, histories, observer):
    """Plays an episode in each environment; returns the episodes."""
    environments = self._environments[: self._num_episodes - first]
    for i, environment in enumerate(environments, start=first):
      environment.seed(episode_seed(self._seed, i))
    builders = [episode_builder.EpisodeBuilder() for _ in environments]
    finite = [
        finite_steps.FiniteSteps(i, environment)
        for i, environment in enumerate(environments, start=first)
    ]
    for i, environment in enumerate(environments):
      time_step = finite[i].see(environment.reset())
      builders[i].add_observation(time_step.observation)
      time_steps[i] = histories[i].see(time_step)
    running = np.arange(len(time_steps)) < len(environments)
    shape = (len(time_steps),) + self._domain.action_spec().shape
    self._observe(observer, first, running, 0)
    for step in range(self._domain.max_episode_steps):
      actions = decide(step, time_steps, running)
      actions = _checked(actions, shape, first, step)
      for i in np.flatnonzero(running):
        time_step = finite[i].see(environments[i].step(actions[i]))
        time_steps[i] = histories[i].see(time_step)
        builders[i].add_step(
            actions[i],
            time_step.reward,
            time_step.discount,
            environments[i].is_success(),
        )
        builders[i].add_observation(time_step.observation)
        running[i] = not time_step.last()
      self._observe(observer, first, running, step + 1)
      if not running.any():
        episodes = [b.build(i) for i, b in enumerate(builders, start=first)]
        return [x.judged(e) for x, e in zip(finite, episodes, strict=True)]
    raise ValueError(
        f'Episode {first + np.flatnonzero(running)[0]} must end within the'
        f' {self._domain.max_episode_steps} steps of the domain'
        ' (`max_episode_steps`), but it did not.'
    )

  def _observe(self, observer, first, running, step):
    if observer is not None:
      numbers = range(self._num_episodes)
      size = len(self._environments)
      is_running = np.zeros([self._num_episodes], bool)
      is_running[first : first + size] = running[: self._num_episodes - first]
      environments = [self._environments[i % size] for i in numbers]
      observer(environments, is_running, step)


def _checked(actions, shape, first: int, step: int) -> np.ndarray:
  """Checks the actions of the group that starts at episode `first`."""
  actions = np.asarray(actions, np.float32)
  if actions.shape != shape:
    raise ValueError(
        f'Actions of decision {step} must have shape {list(shape)} (episodes,'
        f' action dimension), got {list(actions.shape)}.'
    )
  # A NaN compares false, so it counts as outside.
  outside = np.argwhere(~(np.abs(actions) <= 1.0))
  if len(outside):
    row, dimension = outside[0]
    raise ValueError(
        f'Actions must be finite and in [-1, 1], got {actions[row, dimension]}'
        f' in dimension {dimension} of episode {first + row} at decision {step}'
        f' ({len(outside)} of {actions.size} numbers are not).'
    )
  return actions


def _integer_seed(seed: int, purpose: int, index: int) -> int:
  state = np.random.SeedSequence(seed, spawn_key=(purpose, index))
  return int(state.generate_state(1, np.uint32)[0] >> 1)
