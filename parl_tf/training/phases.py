"""The phases of a run: behavior cloning, offline, online."""

from typing import Any, Dict, Optional, Sequence

from absl import logging
import gin

from parl_tf import types
from parl_tf.replay import experience
from parl_tf.replay import memory_experience
from parl_tf.training import cached_samples
from parl_tf.training import critic_encoder
from parl_tf.training import held_out_rows
from parl_tf.training import progress
from parl_tf.training import session as session_lib
from parl_tf.training import setbacks


@gin.configurable
class BehaviorCloning:
  """Clones the data until the held-out loss stops falling."""

  name = 'behavior_cloning'

  def __init__(
      self,
      num_steps: int = 3_000_000,
      batch_size: int = 256,
      interval: int = 1_000,
      tolerance: Optional[float] = None,
      min_steps: int = 0,
  ):
    """Initializes the phase.

    Args:
      num_steps: Maximum number of training steps.
      batch_size: Rows of a training step.
      interval: Training steps between rows of `metrics.csv`.
      tolerance: The phase ends early if the best held-out loss of the last
        fifth of the steps improves on the best earlier loss by less than this
        fraction. None runs all steps.
      min_steps: Minimum training steps before the phase may end early.

    Raises:
      ValueError: If a number is out of range.
    """
    _check_positive(
        num_steps=num_steps, batch_size=batch_size, interval=interval
    )
    if tolerance is not None and not 0.0 <= tolerance < 1.0:
      raise ValueError(f'`tolerance` must be in [0, 1), got {tolerance}.')
    if min_steps < 0:
      raise ValueError(f'`min_steps` must not be negative, got {min_steps}.')
    self._num_steps = num_steps
    self._interval = interval
    self._tolerance = tolerance
    self._min_steps = min_steps
    self._request = experience.ExperienceRequest(cloning_batch_size=batch_size)

  def run(
      self,
      session: session_lib.Session,
      held_out: Sequence[types.Episode],
  ) -> None:
    """Runs or resumes the phase.

    Args:
      session: Session of the run.
      held_out: Episodes that are held out of training.
    """
    if session.agent.generative_policy.is_served:
      logging.info('The policy is served by another process: no cloning.')
      return
    state = session.state
    num_steps = 0 if self._is_over(state.held_out_losses) else self._num_steps
    if not session.begin_phase(self.name, num_steps):
      return
    table = held_out_rows.store(session, held_out)
    with progress.Progress(self.name, self._num_steps, state.phase_step) as bar:
      while state.phase_step < self._num_steps and not self._is_over(
          state.held_out_losses
      ):
        num_steps = _next(state.phase_step, self._interval, self._num_steps)
        session.train(num_steps, self._request)
        state.phase_step += num_steps
        loss = held_out_rows.loss(session.agent, table)
        state.held_out_losses.append((state.phase_step, loss))
        session.write_row({'held_out_loss': loss})
        bar.update(state.phase_step, held_out_loss=loss)
        session.save_if_due()
    if state.phase_step < self._num_steps:
      logging.info(
          'Cloning ends after %d of %d steps: the held-out loss is flat.',
          state.phase_step, self._num_steps,
      )
    session.write_row(session.evaluate(with_search=False))
    session.end_phase()

  def _is_over(self, losses):
    if self._tolerance is None or not losses or losses[-1][0] < self._min_steps:
      return False
    return held_out_rows.is_flat(losses, self._tolerance)


@gin.configurable
class Offline:
  """Trains the critic on the data, by default with a frozen policy."""

  name = 'offline'

  def __init__(
      self,
      num_steps: int = 500_000,
      batch_size: int = 256,
      interval: int = 1_000,
      evaluation_interval: Optional[int] = None,
      cache_candidates: bool = True,
      action_cache: Optional[str] = None,
      train_policy: bool = False,
  ):
    """Initializes the phase.

    Args:
      num_steps: Training steps; 0 skips the phase.
      batch_size: Rows of one critic update.
      interval: Training steps between rows of `metrics.csv`.
      evaluation_interval: Training steps between evaluations, a multiple of
        `interval`; None evaluates only at the end.
      cache_candidates: Whether to draw the frozen policy's samples once for
        every stored state and reuse them, if the critic uses any; takes
        `4 * steps * N * A` bytes of disk. Rows from a replay server are never
        cached.
      action_cache: Directory of a cache that `parl-cache` has filled with the
        policy's samples; None draws them to the run's directory.
      train_policy: Whether the improver also updates the policy, as in most of
        the baselines. Disables the cache.

    Raises:
      ValueError: If a number is out of range.
    """
    _check_positive(batch_size=batch_size, interval=interval)
    if num_steps < 0:
      raise ValueError(f'`num_steps` must not be negative, got {num_steps}.')
    _check_multiple(evaluation_interval=evaluation_interval, interval=interval)
    self._num_steps = num_steps
    self._batch_size = batch_size
    self._interval = interval
    self._evaluation_interval = evaluation_interval
    self._cache_candidates = cache_candidates and not train_policy
    self._action_cache = action_cache
    self._train_policy = train_policy

  def run(self, session: session_lib.Session) -> None:
    """Runs or resumes the phase."""
    if not self._num_steps:
      return
    if not session.begin_phase(self.name, self._num_steps):
      return
    agent, state = session.agent, session.state
    if state.phase_step == 0:
      critic_encoder.initialize_critic_encoder(agent)
      agent.reset_following_policies()
    request = experience.ExperienceRequest(
        critic_slices=agent.critic_utd, critic_batch_size=self._batch_size
    )
    if self._train_policy:
      request = request._replace(
          policy_slices=agent.policy_utd,
          policy_batch_size=self._batch_size,
          policy_offline_fraction=1.0,
      )
    is_cached = (
        self._cache_candidates
        and agent.critic.draws_actions
        and not _needs_densities(agent)
        and isinstance(session.experience, memory_experience.MemoryExperience)
    )
    if is_cached:
      cached_samples.attach(session, self._action_cache)
    elif self._action_cache:
      cached_samples.warn_unused(session, self._action_cache)
    with progress.Progress(self.name, self._num_steps, state.phase_step) as bar:
      while state.phase_step < self._num_steps:
        num_steps = _next(state.phase_step, self._interval, self._num_steps)
        session.train(num_steps, request)
        state.phase_step += num_steps
        metrics = {}
        if self._is_evaluation(state.phase_step):
          metrics = session.evaluate(with_search=True)
        session.write_row(metrics)
        bar.update(state.phase_step, **metrics)
        session.save_if_due()
    if is_cached:
      cached_samples.detach(session)
    _evaluate_if_changed(session)
    setbacks.warn_of_search(state.latest, agent)
    session.end_phase()

  def _is_evaluation(self, step):
    interval = self._evaluation_interval or self._num_steps
    return step == self._num_steps or step % interval == 0


@gin.configurable
class Online:
  """Fine-tunes critic and policy, by default one step per environment step."""

  name = 'online'

  def __init__(
      self,
      num_episodes: int = 1_000,
      num_warm_up_episodes: int = 1,
      critic_batch_size: int = 256,
      offline_fraction: Optional[float] = 0.5,
      max_online_weight: Optional[float] = None,
      policy_batch_size: int = 256,
      policy_offline_fraction: Optional[float] = None,
      evaluation_interval: int = 50,
      video_interval: Optional[int] = None,
      order: str = 'interleaved',
      training_interval: int = 1,
  ):
    """Initializes the phase.

    Args:
      num_episodes: Episodes after the warm-up; 0 skips the phase.
      num_warm_up_episodes: Episodes that the offline policy collects before
        training starts.
      critic_batch_size: Rows of one critic update.
      offline_fraction: Exact share of these rows from the offline table; None
        draws from both tables in proportion to their sizes.
      max_online_weight: How many times as often an online transition may be one
        of these rows as an offline one, if there is a share. It is then a lower
        bound, and right on average only. None sets no limit.
      policy_batch_size: Rows of one policy update.
      policy_offline_fraction: Share of these rows from the offline table; None
        draws from both tables in proportion to their sizes.
      evaluation_interval: Episodes between evaluations.
      video_interval: Episodes between videos of an evaluation episode, which
        TensorBoard shows; a multiple of `evaluation_interval`. None makes none.
      order: 'interleaved' alternates critic and policy updates (Algorithm 2).
        'per_episode' makes all policy updates of an episode first, then all
        critic updates, as the authors' released code does.
      training_interval: Environment steps per training step, counted over all
        episodes. The critic has `PARLAgent.critic_utd` updates in each.

    Raises:
      ValueError: If a number is out of range or the option unknown.
    """
    _check_positive(
        num_warm_up_episodes=num_warm_up_episodes,
        critic_batch_size=critic_batch_size,
        policy_batch_size=policy_batch_size,
        evaluation_interval=evaluation_interval,
        training_interval=training_interval,
    )
    if num_episodes < 0:
      raise ValueError(
          f'`num_episodes` must not be negative, got {num_episodes}.'
      )
    _check_multiple(
        video_interval=video_interval, evaluation_interval=evaluation_interval
    )
    if order not in ('interleaved', 'per_episode'):
      raise ValueError(
          f"`order` must be 'interleaved' or 'per_episode', got {order!r}."
      )
    self._num_episodes = num_episodes
    self._num_warm_up_episodes = num_warm_up_episodes
    self._critic: Dict[str, Any] = dict(
        critic_batch_size=critic_batch_size,
        critic_offline_fraction=offline_fraction,
        critic_max_online_weight=max_online_weight,
    )
    self._policy: Dict[str, Any] = dict(
        policy_batch_size=policy_batch_size,
        policy_offline_fraction=policy_offline_fraction,
    )
    # Raises before any work if a fraction does not give whole rows.
    experience.requested_parts(
        experience.ExperienceRequest(
            critic_slices=1, policy_slices=1, **self._critic, **self._policy
        )
    )
    self._evaluation_interval = evaluation_interval
    self.video_interval = video_interval
    self._order = order
    self._training_interval = training_interval

  def check(self, domain, agent) -> None:
    """Raises `ValueError` if another process serves the policy."""
    del domain
    if self._num_episodes and agent.generative_policy.is_served:
      raise ValueError(
          'A policy that another process serves is fine-tuned by '
          '`run_experiment.online_ctor = @ServedOnline`, got `Online`.'
      )

  def run(self, session: session_lib.Session) -> None:
    """Runs or resumes the phase; `check` has been called."""
    # Opened even if no episodes are left: closing it stops the collectors.
    with session.source.collection(session) as collection:
      if self._num_episodes:
        self._run(session, collection)

  def _run(self, session, collection):
    total = self._num_warm_up_episodes + self._num_episodes
    if not session.begin_phase(self.name, total):
      return
    state = session.state
    session.agent.begin_online()
    if state.phase_step == 0:
      session.agent.reset_optimizers()
      session.agent.reset_following_policies()
    requests = self._requests(session.agent)
    with progress.Progress(
        self.name, total, state.phase_step, unit='episode',
        warm_up=self._num_warm_up_episodes,
    ) as bar:
      while state.phase_step < total:
        metrics = self._turn(session, collection, requests)
        if self._is_evaluation(state.phase_step, total):
          makes_video = self._is_due(state.phase_step, self.video_interval)
          metrics.update(session.evaluate(True, makes_video))
        session.write_row(metrics)
        bar.update(state.phase_step, **metrics)
        session.save_if_due()
    _evaluate_if_changed(session)
    session.end_phase()

  def _turn(self, session, collection, requests):
    """Adds an episode, then trains on as many steps as are due."""
    state = session.state
    collected = collection.next(state.episodes)
    taken = state.env_steps // self._training_interval
    state.phase_step += 1
    state.episodes += 1
    state.env_steps += collected.num_steps
    num_steps = state.env_steps // self._training_interval - taken
    if num_steps and state.phase_step > self._num_warm_up_episodes:
      for request in requests:
        session.train(num_steps, request)
    return {
        'collect/success': float(collected.success),
        'collect/length': collected.num_steps,
    }

  def _requests(self, agent):
    critic = dict(self._critic, critic_slices=agent.critic_utd)
    policy = dict(self._policy, policy_slices=agent.policy_utd)
    if self._order == 'interleaved':
      return [experience.ExperienceRequest(**critic, **policy)]
    return [
        *([experience.ExperienceRequest(**policy)] if agent.policy_utd else ()),
        *([experience.ExperienceRequest(**critic)] if agent.critic_utd else ()),
    ]

  def _is_evaluation(self, step, total):
    return step == total or self._is_due(step, self._evaluation_interval)

  def _is_due(self, step, interval):
    step -= self._num_warm_up_episodes
    return bool(interval) and step > 0 and step % interval == 0


def _next(step: int, interval: int, num_steps: int) -> int:
  """Returns the number of steps to the next multiple of `interval`."""
  return min(interval - step % interval, num_steps - step)


def _evaluate_if_changed(session) -> None:
  if not session.state.latest:
    # A restart lowered the number of steps below the number already done.
    session.write_row(session.evaluate(with_search=True))


def _needs_densities(agent) -> bool:
  """Returns whether the penalty uses densities of the policy's own actions."""
  return (
      agent.generative_policy.has_density
      and not agent.searches.training.optimize_targets
  )


def _check_multiple(**intervals):
  (name, interval), (unit_name, unit) = intervals.items()
  if interval and interval % unit:
    raise ValueError(
        f'`{name}` must be a multiple of `{unit_name}`, got {interval} and '
        f'{unit}.'
    )


def _check_positive(**numbers):
  for name, number in numbers.items():
    if number < 1:
      raise ValueError(f'`{name}` must be positive, got {number}.')
