"""One session of a run: training, evaluation, metrics and checkpoints."""

import os
import shutil
import time
from typing import Dict, Mapping, Optional

from absl import logging
import tensorflow as tf

from parl_tf import interruption
from parl_tf import types
from parl_tf.agents import parl_agent
from parl_tf.replay import episode_log
from parl_tf.replay import episode_writer
from parl_tf.search import xla
from parl_tf.training import best_policies
from parl_tf.training import checkpoint
from parl_tf.training import devices
from parl_tf.training import evaluation
from parl_tf.training import evaluation_result
from parl_tf.training import evaluation_video
from parl_tf.training import failed_starts
from parl_tf.training import finite_losses
from parl_tf.training import heartbeat
from parl_tf.training import learning_rates
from parl_tf.training import metric_columns
from parl_tf.training import metrics_log
from parl_tf.training import phase_checkpoint
from parl_tf.training import run_summary
from parl_tf.training import setbacks
from parl_tf.training import sources
from parl_tf.training import task_units
from parl_tf.training import value_bias


class Session:
  """A run in one process, from its checkpoint until it ends or is killed.

  Attributes:
    agent: `PARLAgent`.
    domain: `Domain`.
    state: `RunState`, which the checkpoint stores together with the agent.
    source: `Source` of training rows and online episodes.
    log: Online episodes collected in this process.
    best_policies: Keeps the networks of the best online evaluation, or None.
  """

  def __init__(
      self,
      root_dir: str,
      *,
      seed: int,
      domain,
      agent: parl_agent.PARLAgent,
      source: sources.Source,
      writers: Mapping[str, episode_writer.EpisodeWriter],
      num_evaluation_episodes: int,
      checkpoint_seconds: float,
      strategy: Optional[tf.distribute.Strategy] = None,
      phase_checkpoints: Optional[phase_checkpoint.PhaseCheckpoints] = None,
      keep_best: bool = False,
  ):
    """Opens the run directory and restores its checkpoint, if any.

    Args:
      root_dir: The run's directory.
      seed: Integer seed of the run.
      domain: `Domain`.
      agent: `PARLAgent`.
      source: Source of training rows and online episodes.
      writers: Writer of each table of this process.
      num_evaluation_episodes: Episodes of an evaluation; 0 evaluates nothing.
      checkpoint_seconds: Minimum seconds between checkpoints.
      strategy: Strategy in whose scope the agent was made; None for one device.
      phase_checkpoints: Keeps the networks at the end of each phase, if given.
      keep_best: Whether to keep the networks of the best online evaluation.

    Raises:
      ValueError: If the run began with other units of actions.
    """
    task_units.claim(root_dir, domain)
    self.root_dir = root_dir
    self.seed = seed
    self.domain = domain
    self.agent = agent
    self.source = source
    self._writers = writers
    self._num_evaluation_episodes = num_evaluation_episodes
    self._checkpoint_seconds = checkpoint_seconds
    self._phase_checkpoints = phase_checkpoints
    self.best_policies: Optional[best_policies.BestPolicies] = None
    if keep_best and (
        agent.named_policies or agent.generative_policy.is_served
    ):
      self.best_policies = best_policies.BestPolicies(root_dir, agent)
    self._heartbeat = heartbeat.Heartbeat(root_dir)
    self._started = time.monotonic()
    self.state = checkpoint.RunState()
    self._checkpoint = checkpoint.Checkpoint(
        os.path.join(root_dir, 'checkpoints'), agent, self.state
    )
    self.is_restored = self._checkpoint.restore()
    self._wall_before = self.state.wall_seconds
    self._saved_at = self._started
    if self.is_restored:
      self._log_repeated()
    self.log = episode_log.EpisodeLog(os.path.join(root_dir, 'episodes'))
    self.metrics = metrics_log.MetricsLog(
        root_dir, metric_columns.COLUMNS, resume_rows=self.state.num_rows
    )
    self._learner = devices.make_learner(
        os.path.join(root_dir, 'checkpoints', 'learner'),
        agent,
        strategy or tf.distribute.get_strategy(),
    )
    self.evaluator = evaluation.Evaluator(
        domain, num_episodes=max(1, num_evaluation_episodes), seed=seed
    )
    self._latest_losses: Dict[str, float] = {}
    self._failed_starts: Optional[failed_starts.Difference] = None
    self._latest_results: Dict[str, evaluation_result.EvaluationResult] = {}
    self._zero_rates = learning_rates.ZeroRates()

  @property
  def experience(self):
    """The current source of training rows."""
    return self.source.experience

  @property
  def train_step(self) -> int:
    """Number of training steps so far."""
    return int(self.agent.train_step_counter.numpy())

  @property
  def wall_seconds(self) -> float:
    """Seconds of this run, summed over its sessions."""
    return self._wall_before + time.monotonic() - self._started

  def begin_phase(self, name: str, num_steps: int = 0) -> bool:
    """Starts or resumes a phase.

    The latest phase is reopened if it now has more steps than before.

    Args:
      name: Name of the phase.
      num_steps: Total number of its steps or episodes.

    Returns:
      Whether the phase has steps left.

    Raises:
      ValueError: If a phase that another one followed has more steps than then.
    """
    self.state.pass_to(name)
    if self.state.lacks_networks:
      self.keep_networks()  # They are still those of the phase's end.
    if name in self.state.summaries and not self._reopen(name, num_steps):
      before = self.state.phase_lengths.get(name, num_steps)
      if num_steps > before:
        raise ValueError(
            f'Only the last phase of a run can be continued: {name} must keep'
            f' its {before} steps, got {num_steps}. To train it for longer,'
            ' begin a new run from its networks (`run_experiment.initial_run`).'
        )
      return False
    self.state.phase_lengths[name] = num_steps
    self.state.lacks_networks = False
    if self.state.phase != name or self.state.phase_step == 0:
      self.state.phase = name
      self.state.phase_step = 0
      self.state.phase_start = (
          self.train_step, self.state.env_steps, self.wall_seconds
      )
      self.save()
    if self.state.phase_step:
      logging.info('Phase %s from step %d.', name, self.state.phase_step)
    return True

  def is_past(self, name: str) -> bool:
    """Returns whether the phase after `name` has started."""
    return self.state.phase != name

  def evaluate_start(self, phase: str) -> None:
    """Evaluates the networks that a new run takes over from another one.

    The result is that of `phase`, but with this run's search and time limit.

    Args:
      phase: The phase of the other run that ended with these networks.
    """
    if self.state.num_rows or not self._num_evaluation_episodes:
      return
    self.state.phase = phase
    self.state.phase_start = (self.train_step, 0, self.wall_seconds)
    self.save()  # From here on, the other run is not needed.
    metrics = self.evaluate(with_search=phase != 'behavior_cloning')
    setbacks.warn_of_search(self.state.latest, self.agent)
    self.write_row(metrics)
    self._store_result()
    self.save()

  def end_phase(self) -> None:
    """Stores the result of the phase."""
    self._store_result()
    # First, because a phase that the checkpoint has as finished is not redone.
    self.keep_networks()
    self.save()

  def keep_networks(self) -> bool:
    """Writes the networks of the ended phase; returns False on failure."""
    kept, state = self._phase_checkpoints, self.state
    state.lacks_networks = kept is not None and not kept.save(state.phase)
    return not state.lacks_networks

  def _store_result(self):
    state = self.state
    train_step, env_steps, wall_seconds = state.phase_start
    latest = state.latest
    success_rate = latest.get('success_rate')
    without_search = latest.get('success_rate_without_search')
    if without_search is not None:
      logging.info(
          'Phase %s: success %swithout search %.3f (%d episodes).',
          state.phase,
          '' if success_rate is None else f'{success_rate:.3f}, ',
          without_search,
          self._num_evaluation_episodes,
      )
    if self._failed_starts is not None:
      logging.info('%s', self._failed_starts.describe())
    state.summaries[state.phase] = run_summary.PhaseSummary(
        success_rate=success_rate,
        success_rate_without_search=without_search,
        score=latest.get('score', latest.get('score_without_search')),
        num_evaluation_episodes=self._num_evaluation_episodes,
        train_steps=self.train_step - train_step,
        env_steps=state.env_steps - env_steps,
        wall_seconds=self.wall_seconds - wall_seconds,
        **{
            name: latest.get(name)
            for name in (*evaluation.SPEED_METRICS, *setbacks.OUTCOMES)
        },
    )._asdict()
    state.last_phase_step = state.phase_step
    state.phase_step = 0
    state.latest = {}

  def train(self, num_steps: int, request) -> None:
    """Takes training steps on rows of the tables."""
    self.state.latest = {}  # Training outdates the latest evaluation.
    iterator = self.experience.iterate(self.train_step, num_steps, request)
    with xla.explained_errors(), finite_losses.explained_errors(self.agent):
      losses = self._learner.run(num_steps, iterator)
    self._note_losses(losses)

  def train_on(self, experience: types.Experience) -> None:
    """Trains on experience that does not come from a table."""
    self.state.latest = {}
    with xla.explained_errors(), finite_losses.explained_errors(self.agent):
      losses = self.agent.train(experience)
    self._note_losses(losses)

  @property
  def evaluates(self) -> bool:
    """Whether evaluations play any episodes."""
    return bool(self._num_evaluation_episodes)

  def compile_ahead(self, with_search: bool) -> None:
    """Compiles what `evaluate` runs in the background."""
    if not self._num_evaluation_episodes:
      return
    policies = [self.agent.base_policy]
    if with_search:
      policies.append(self.agent.evaluation_policy)
    self.evaluator.compile_ahead(tuple(dict.fromkeys(policies)))

  def evaluate(
      self, with_search: bool, makes_video: bool = False
  ) -> Dict[str, float]:
    """Runs the evaluation episodes, if any; returns and stores the metrics.

    Args:
      with_search: Whether to evaluate the search, too.
      makes_video: Whether to write a video of the first episode with search.
    """
    num_episodes = self._num_evaluation_episodes
    metrics: Dict[str, float] = {'num_evaluation_episodes': num_episodes}
    if not num_episodes:
      self.state.latest = metrics
      return {}
    base = self.evaluator.run_policy(self.agent.base_policy)
    metrics.update(base.metrics('_without_search'))
    self._latest_results = {'alone': base}
    latest = base
    outcomes = {'outcomes_without_search': base.outcomes}
    if with_search:
      video = evaluation_video.FirstEpisode() if makes_video else None
      result = self.evaluator.run_policy(self.agent.evaluation_policy, video)
      if video is not None:
        self.metrics.write_video('evaluation', self.train_step, video.as_gif())
      metrics.update(result.metrics())
      self._latest_results['search'] = latest = result
      outcomes['outcomes'] = result.outcomes
      metrics.update(value_bias.start_values(self, result.episodes))
    self._failed_starts = failed_starts.find(latest.episodes, latest.successes)
    self.state.latest = {**metrics, **outcomes}
    if self.state.phase == 'online' and self.best_policies is not None:
      self.state.num_online_evaluations += 1
      self.best_policies.offer(
          self.state.latest,
          self.state.episodes,
          self.state.num_online_evaluations,
      )
    self._beat()
    return metrics

  def evaluate_controller(self) -> Optional[float]:
    """Returns the success rate of the domain's controller, measured once.

    None if the domain has no controller, or nothing is evaluated.
    """
    if not self._num_evaluation_episodes:
      return None
    if self.state.controller_success_rate is None and not self.state.num_rows:
      result = self.evaluator.run_controller()
      if result is not None:
        self.state.controller_success_rate = result.success_rate
    return self.state.controller_success_rate

  def write_row(self, metrics: Mapping[str, float]) -> None:
    """Appends a row of the latest losses, evaluation and `metrics`."""
    self.metrics.write(
        phase=self.state.phase,
        train_step=self.train_step,
        env_steps=self.state.env_steps,
        episodes=self.state.episodes,
        wall_seconds=self.wall_seconds,
        metrics={**self._latest_losses, **metrics},
        evaluations=self._latest_results,
    )
    self._latest_losses = {}
    self._latest_results = {}
    self.state.num_rows = self.metrics.num_rows

  def write_episode(self, table: str, episode: types.Episode) -> None:
    """Writes an episode to a table."""
    self._writers[table].write(table, episode)

  def check_episode(self, table: str, episode: types.Episode) -> None:
    """Raises `ValueError` if a table would refuse an episode."""
    self._writers[table].check(table, episode)

  def stored_steps(self, table: str, episode: types.Episode):
    """Returns the steps that a table stores for an episode."""
    return self._writers[table].stored_steps(episode)

  def save_if_due(self) -> None:
    """Ends a turn: writes a checkpoint if the last one is old enough."""
    seconds = time.monotonic() - self._saved_at
    interruption.end_turn(self.save, seconds >= self._checkpoint_seconds)

  def save(self) -> None:
    """Writes a checkpoint; logs an error if the write fails."""
    self.state.wall_seconds = self.wall_seconds
    # First, so that the heartbeat is never older than the checkpoint.
    self._beat()
    self._checkpoint.save()
    self._saved_at = time.monotonic()

  def _note_losses(self, loss_info):
    losses = {name: float(x) for name, x in loss_info.extra.items()}
    self._latest_losses.update(losses, loss=float(loss_info.loss))
    parts = getattr(self.agent, 'trained_parts', ())
    self._zero_rates.look(parts, self.state.phase, self.train_step)
    self._beat()

  def _reopen(self, name: str, num_steps: int) -> bool:
    if not self.state.reopen(name, num_steps):
      return False
    # Those of the shorter phase; see `run_policies.export_run`.
    policies = os.path.join(self.root_dir, 'policies', name)
    shutil.rmtree(policies, ignore_errors=True)
    return True

  def _beat(self):
    self._heartbeat.write(self.train_step, self.wall_seconds)

  def _log_repeated(self):
    logging.info(
        'Resuming %s in phase %s at training step %d; %s are repeated.',
        self.root_dir,
        self.state.phase,
        self.train_step,
        self._heartbeat.describe_work_since(
            self.train_step, self.state.wall_seconds
        ),
    )
