"""A complete run: data, behavior cloning, offline, online, export."""

import functools
import os
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Union

from absl import logging
import gin
import tensorflow as tf

from parl_tf import types
from parl_tf.agents import parl_agent
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import memory_experience
from parl_tf.reports import run_files
from parl_tf.reports import run_pictures
from parl_tf.training import bound_arguments
from parl_tf.training import builder
from parl_tf.training import evaluation_video
from parl_tf.training import held_out_rows
from parl_tf.training import hindsight
from parl_tf.training import initial_run as initial_run_lib
from parl_tf.training import on_policy
from parl_tf.training import phase_checkpoint
from parl_tf.training import phase_checks
from parl_tf.training import phases
from parl_tf.training import run_dataset
from parl_tf.training import run_directory
from parl_tf.training import run_policies
from parl_tf.training import run_summary
from parl_tf.training import session as session_lib
from parl_tf.training import sources
from parl_tf.training import table_writers
from parl_tf.training import token_check


def _do_nothing() -> None:
  pass


@gin.configurable(
    denylist=['root_dir', 'seed', 'source_ctor', 'strategy', 'on_agent']
)
def run_experiment(
    root_dir: str,
    seed: int,
    source_ctor: Callable[..., sources.Source] = sources.LocalSource,
    strategy: Optional[tf.distribute.Strategy] = None,
    on_agent: Callable[[], None] = _do_nothing,
    *,
    dataset_path: Optional[str] = None,
    num_recorded_steps: Optional[int] = None,
    dataset_seed: Optional[int] = None,
    record_play: bool = False,
    held_out_fraction: float = 0.05,
    num_evaluation_episodes: int = 32,
    phase_names: Sequence[str] = ('behavior_cloning', 'offline', 'online'),
    experience_ctor: Callable = memory_experience.MemoryExperience,
    online_ctor: Callable = phases.Online,
    never_succeeds_online: bool = True,
    timeouts_fail_online: bool = False,
    exported_policies: Sequence[str] = parl_agent.POLICIES,
    export_phases: bool = False,
    keep_phases: bool = True,
    keep_best: bool = True,
    initial_run: Optional[str] = None,
    initial_phase: Optional[str] = None,
    checkpoint_seconds: float = 10.0,
) -> run_summary.RunSummary:
  """Runs or resumes the experiment that gin describes.

  Args:
    root_dir: The run's directory.
    seed: Non-negative integer seed of the run.
    source_ctor: Makes the source of training rows and online episodes, given
      `experience_ctor`, the domain, the agent and the seed. By default this
      process collects the episodes.
    strategy: Shares the rows of a training step among devices; None trains on
      one device.
    on_agent: Called once, when an agent is made.
    dataset_path: Dataset in any supported format; None records `data.hdf5` in
      `root_dir` with the domain's controller.
    num_recorded_steps: Environment steps of the recorded dataset.
    dataset_seed: Seed of the recorded dataset; None takes the run's seed.
    record_play: Whether to record play instead of attempts at the task.
    held_out_fraction: Share of the episodes held out of behavior cloning.
    num_evaluation_episodes: Episodes of an evaluation. 0 evaluates nothing, to
      spare a robot; the learning curve then shows the online episodes.
    phase_names: The phases to run, any of 'behavior_cloning', 'offline' and
      'online'.
    experience_ctor: `MemoryExperience` or `ReverbExperience`.
    online_ctor: `Online`, `ServedOnline`, or `OnPolicy`, which has no replay.
    never_succeeds_online: Whether an online episode that never succeeds gets
      the return of an endless episode, as such episodes of the dataset do.
    timeouts_fail_online: Whether the time limit fails an online episode without
      success for good: it ends with the return of an endless episode, where by
      default the critic bootstraps. For tasks that only success ends: another
      end keeps its reward, and may then be worth more than a time-out.
    exported_policies: The policies to export at the end, any of 'policy',
      'greedy_policy' and 'base_policy'. Each takes a few seconds.
    export_phases: Whether to also export them at the end of behavior cloning
      and of offline RL, to `policies/<phase>`. After cloning, a method with a
      critic exports 'base_policy' only.
    keep_phases: Whether to keep the networks at the end of behavior cloning and
      of offline RL in `phases/<phase>`, so that other runs can begin there.
      Takes less disk than one checkpoint, because it has no optimizers.
    keep_best: Whether to keep the networks of the best online evaluation in
      `best`. If the last evaluation is worse than the best by more than chance
      explains, the policies of the best one are exported to `policies/best`.
    initial_run: Directory of another run, whose networks, data and phases up to
      `initial_phase` this run takes over. The task, the policy, the networks
      and the normalization must be the same; the improver, the search and the
      phases may differ. A critic of another class starts untrained and gets an
      offline phase. None starts from scratch.
    initial_phase: The other run's phase, 'behavior_cloning' or 'offline'; None
      takes 'offline' if its critic can be used.
    checkpoint_seconds: Least seconds between checkpoints, written after turns.

  Returns:
    The summary that is written to `summary.json`.

  Raises:
    ValueError: If the data or an argument is invalid, a setting is given here
      and not in gin, the directory belongs to another configuration, or the
      initial run does not fit this one.
  """
  bound_arguments.check(run_experiment, locals())
  _check(held_out_fraction, num_evaluation_episodes, checkpoint_seconds)
  if initial_phase not in (None, *phase_checkpoint.PHASES):
    raise ValueError(
        f'`initial_phase` must be among {list(phase_checkpoint.PHASES)}, got '
        f'{initial_phase!r}.'
    )
  if initial_phase is not None and initial_run is None:
    raise ValueError(
        '`initial_phase` requires `initial_run`, got None.'
    )
  if unknown := set(phase_names) - set(_Phases._fields):
    raise ValueError(
        f'`phase_names` must be among {list(_Phases._fields)}, got '
        f'{sorted(unknown)}.'
    )
  if not set(exported_policies) <= set(parl_agent.POLICIES):
    raise ValueError(
        f'`exported_policies` must be among {list(parl_agent.POLICIES)}, got '
        f'{exported_policies!r}.'
    )
  # Made first, so that invalid arguments fail before any work is done.
  all_phases = _Phases(
      phases.BehaviorCloning(), phases.Offline(), online_ctor()
  )
  strategy = strategy or tf.distribute.get_strategy()
  domain = domain_lib.select_domain()
  if getattr(all_phases.online, 'video_interval', None):
    if not num_evaluation_episodes and 'online' in phase_names:
      raise ValueError(
          '`Online.video_interval` needs evaluations: `num_evaluation_episodes`'
          ' must not be 0.'
      )
    evaluation_video.check(domain)
  own_dataset_path = os.path.join(root_dir, initial_run_lib.DATA)
  run_directory.claim(
      root_dir, seed, lambda: run_dataset.set_aside(own_dataset_path)
  )
  logging.info('Run directory: %s, seed %d.', root_dir, seed)
  beginning = None
  if initial_run is None:
    initial_run_lib.discard(root_dir)
  else:
    beginning = initial_run_lib.Beginning(
        root_dir, initial_run, initial_phase, domain
    )
    dataset_path = dataset_path or beginning.take_data()
  if dataset_path is None:
    dataset_path = own_dataset_path
    if not os.path.exists(dataset_path):
      with strategy.scope():  # Raises early.
        phase_checks.check(
            all_phases,
            phase_names,
            domain,
            make_agent(domain, domain.normalization, seed),
        )
      on_agent()
      on_agent = _do_nothing
      run_dataset.record(
          dataset_path,
          domain,
          num_steps=num_recorded_steps,
          seed=seed if dataset_seed is None else dataset_seed,
          play=record_play,
      )
  episodes = run_dataset.load(dataset_path, domain, root_dir)
  normalization = run_dataset.statistics(domain, episodes)
  with strategy.scope():
    agent = make_agent(domain, normalization, seed)
    run_dataset.start_critic(agent, domain, episodes)
  phase_checks.check(all_phases, phase_names, domain, agent)
  on_agent()  # The checks have built all networks.
  token_check.check_episodes(dataset_path, episodes, agent.generative_policy)
  hindsight.Hindsight(domain).check(episodes)
  start = beginning and beginning.load(agent, normalization)
  skipped_phases: Sequence[str] = start.skipped_phases if start else ()
  chosen_phases = {
      name: getattr(all_phases, name)
      for name in phase_names
      if name not in skipped_phases
  }
  if not chosen_phases:
    raise ValueError(
        '`phase_names` must have a phase after those of `initial_run`, got '
        f'{list(phase_names)} after {list(skipped_phases)}.'
    )
  source = source_ctor(experience_ctor, domain, agent, seed)
  if 'online' in chosen_phases or num_evaluation_episodes:
    source.check_domain(domain, evaluates=num_evaluation_episodes > 0)
  session = session_lib.Session(
      root_dir,
      seed=seed,
      domain=domain,
      agent=agent,
      source=source,
      writers=table_writers.make(domain, agent, source.experience),
      num_evaluation_episodes=num_evaluation_episodes,
      checkpoint_seconds=checkpoint_seconds,
      strategy=strategy,
      phase_checkpoints=phase_checkpoint.PhaseCheckpoints(
          root_dir,
          domain=domain,
          agent=agent,
          normalization=normalization,
          dataset_path=(
              None if dataset_path == own_dataset_path else dataset_path
          ),
      ) if keep_phases else None,
      keep_best=keep_best,
  )
  source.begin(session, episodes)
  export_to = functools.partial(
      run_policies.export_run, session, episodes, exported_policies
  )
  _run_phases(
      chosen_phases,
      session,
      episodes,
      held_out_fraction,
      export_to if export_phases else lambda phase: None,
      # Not the policy of an offline phase that is repeated with another critic.
      start.phase if start and start.phase in skipped_phases else None,
  )
  phase_checkpoint.complete(session)
  summary = _finish(
      session,
      export_to(),
      run_policies.export_best(session, episodes, exported_policies),
      run_dataset.success_rate(domain, episodes),
  )
  source.close()
  return summary


class _Phases(NamedTuple):
  behavior_cloning: phases.BehaviorCloning
  offline: phases.Offline
  online: Union[phases.Online, on_policy.OnPolicy]


def _check(held_out_fraction, num_evaluation_episodes, checkpoint_seconds):
  """Raises `ValueError` if an argument is out of range."""
  if not 0.0 < held_out_fraction < 1.0:
    raise ValueError(
        f'`held_out_fraction` must be in (0, 1), got {held_out_fraction}.'
    )
  for name, number in (
      ('num_evaluation_episodes', num_evaluation_episodes),
      ('checkpoint_seconds', checkpoint_seconds),
  ):
    if number < 0:
      raise ValueError(f'`{name}` must not be negative, got {number}.')


def _run_phases(
    all_phases, session, episodes, held_out_fraction, export_to, taken_over
):
  """Runs the phases; fills the tables with the episodes that each needs.

  Calls `export_to(phase)` after cloning and offline RL. Evaluates first what
  was taken over from another run at the end of its phase `taken_over`.
  """
  controller_success_rate = session.evaluate_controller()
  if controller_success_rate is not None:
    logging.info("The domain's controller: success %.3f.",
                 controller_success_rate)
  if any(name not in session.state.summaries for name in all_phases):
    session.compile_ahead(with_search=set(all_phases) != {'behavior_cloning'})
  if taken_over is not None:
    session.evaluate_start(taken_over)
  train, held_out = held_out_rows.split(
      episodes, held_out_fraction, session.seed
  )
  for episode in train:
    session.write_episode('offline', episode)
  if 'behavior_cloning' in all_phases:
    all_phases['behavior_cloning'].run(session, held_out)
    export_to('behavior_cloning')
  for episode in held_out:
    session.write_episode('offline', episode)
  if 'offline' in all_phases:
    all_phases['offline'].run(session)
    export_to('offline')
  if 'online' in all_phases:
    all_phases['online'].run(session)


def _finish(
    session,
    policies: Dict[str, str],
    best: Optional[run_summary.BestEvaluation],
    data_success_rate: Optional[float],
) -> run_summary.RunSummary:
  """Draws the pictures and writes the summary.

  Args:
    session: The session.
    policies: Paths of the exported policies, by name.
    best: The best online evaluation, if the last one is worse.
    data_success_rate: See `RunSummary`.
  """
  root_dir, state = session.root_dir, session.state
  run_pictures.draw(
      root_dir,
      references={
          'controller': state.controller_success_rate,
          'data': data_success_rate,
      },
      title=f'{session.domain.name}, seed {session.seed}',
  )
  summary = run_summary.RunSummary(
      seed=session.seed,
      domain=session.domain.name,
      wall_seconds=session.wall_seconds,
      controller_success_rate=state.controller_success_rate,
      data_success_rate=data_success_rate,
      phases={
          name: run_summary.PhaseSummary(**numbers)
          for name, numbers in state.summaries.items()
      },
      policies=policies,
      initial_run=run_files.read_initial_run(root_dir),
      best=best,
      policy_version=(state.policy_versions or [''])[-1],
  )
  run_summary.write(os.path.join(root_dir, run_files.SUMMARY), summary)
  session.metrics.close()
  run_directory.write_operative_config(root_dir)
  run_directory.mark_finished(root_dir)
  session.evaluator.close()
  return summary


def dataset_path(root_dir: str) -> str:
  """Returns the path of a run's dataset: bound, taken over, or recorded."""
  bound = gin.get_bindings(run_experiment).get('dataset_path')
  if bound:
    return bound
  taken_over = run_files.read_initial_run(root_dir)
  if taken_over is not None and taken_over.dataset_path:
    return taken_over.dataset_path
  return os.path.join(root_dir, initial_run_lib.DATA)


def make_agent(domain, normalization: Optional[types.Normalization], seed: int):
  """Builds the agent that gin describes, with a new training-step counter.

  Args:
    domain: `Domain`.
    normalization: Observation statistics, or None if they arrive with weights
      of another process.
    seed: Integer seed of initial weights and draws.
  """
  train_step = tf.Variable(
      0,
      dtype=tf.int64,
      trainable=False,
      name='train_step',
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
  )
  return builder.build_agent(domain, normalization, seed, train_step)
