"""Measures the controls of runs, and writes them to `controls.json`."""

import contextlib
import json
import os
import re
from typing import (
    Any,
    ContextManager,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
)

from absl import logging
import gin
import numpy as np

from parl_tf import synced_file
from parl_tf.agents import parl_policy
from parl_tf.binaries import configs
from parl_tf.binaries import served_controls
from parl_tf.binaries import training_run
from parl_tf.domains import domain as domain_lib
from parl_tf.reports import controls
from parl_tf.reports import evaluations
from parl_tf.reports import run_files
from parl_tf.reports import run_search
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import tables
from parl_tf.search import acting_search
from parl_tf.search import action_source
from parl_tf.training import evaluation
from parl_tf.training import evaluation_result
from parl_tf.training import experiment
from parl_tf.training import initial_run as initial_run_lib
from parl_tf.training import phase_checkpoint
from parl_tf.training import run_dataset
from parl_tf.training import run_directory

_CLONING = 'behavior_cloning'
_METHOD = 'self_distillation'
_SCORES = ('success_rate', 'score', 'steps_to_success', 'mean_return')
_SCOPES = ('', 'training/', 'acting/', 'evaluation/')
# What `methods/self_distillation.gin` binds in no scope.
_SEARCH = {'num_samples': '1', 'optimizer': 'None', 'selection': "'sample'"}


class SelfDistillation(NamedTuple):
  """Arguments of `training_run.train`."""

  root_dir: str
  gin_files: Sequence[str]
  gin_bindings: Sequence[str]
  seed: int


def measure_all(folders: Sequence[str]) -> List[str]:
  """Measures all controls of runs; returns the files written.

  Args:
    folders: Run directories, or folders that contain some at any depth.

  Raises:
    ConnectionError: If the server of a policy does not answer.
    ValueError: If a run has no clone or has not been evaluated, a file is
      faulty, or self-distillation was begun with other settings. No run is
      measured if one lacks its clone or the server of its policy. Other errors
      end the measurement of all runs; what has been measured is kept.
  """
  run_dirs, notes = run_search.find_runs(folders)
  for note in notes:
    logging.warning('%s', note)
  controlled = {run_dir: self_distillation(run_dir) for run_dir in run_dirs}
  for run_dir in run_dirs:
    if _is_served(run_dir) and not controls.are_complete(run_dir):
      served_controls.check(run_dir)
  for run_dir, arguments in controlled.items():
    measure(run_dir)
    if arguments is None:
      logging.info(
          '%s: no self-distillation, because the run has no online phase.',
          run_dir,
      )
      continue
    if controls.are_complete(run_dir):
      continue
    folder = arguments.root_dir
    logging.info('%s: self-distillation runs in %s.', run_dir, folder)
    with _from_base(run_dir):
      gin.clear_config()
      try:
        training_run.train(*arguments)
      except run_directory.OtherRunError as error:
        raise ValueError(
            f'{os.path.dirname(folder)} was begun with other settings, such as'
            ' those of an earlier version, or has lost its checkpoints. Remove'
            ' it to repeat self-distillation.'
        ) from error
    write_self_distillation(run_dir, folder)
  return [os.path.join(run_dir, controls.FILE) for run_dir in run_dirs]


def describe(folders: Sequence[str]) -> str:
  """Returns a table of the controls of measured runs.

  Args:
    folders: Run directories, or folders that contain some at any depth.
  """
  found = runs_lib.read_runs(folders, may_repeat=True)
  return tables.as_text(controls.HEADER, controls.table(found.runs))


def find_clone(run_dir: str) -> str:
  """Returns the absolute directory with the checkpoint of a run's clone.

  Raises:
    ValueError: If neither the run nor one where it began has the checkpoint.
  """
  folder = run_dir
  while _CLONING not in phase_checkpoint.saved_phases(folder):
    initial_run = run_files.read_initial_run(folder)
    if initial_run is None:
      raise ValueError(
          f'{run_dir} needs the clone in '
          f'{phase_checkpoint.path(folder, _CLONING)}, which does not exist.'
      )
    folder = initial_run.path
  return os.path.abspath(folder)


def measure(run_dir: str) -> None:
  """Measures the data and the clone; writes each result to `controls.json`.

  The clone of a served policy is its base; see `served_controls`.

  Args:
    run_dir: The run's directory. Afterwards, gin holds its configuration.

  Raises:
    ConnectionError: If the server of the policy does not answer.
    ValueError: If the run has no clone or has not been evaluated, or a file is
      faulty.
  """
  path = os.path.join(run_dir, controls.FILE)
  num_episodes = _num_evaluation_episodes(run_dir)
  found = controls.read(run_dir)
  if found is None or found.num_episodes != num_episodes:
    found = controls.Controls(num_episodes)
  missing = [x for x in controls.TEMPERATURES if x not in found.clone]
  if found.data is not None and not missing:
    return
  domain = _configure(run_dir)
  episodes = run_dataset.load(
      experiment.dataset_path(run_dir), domain, run_dir
  )
  data = evaluation_result.of_episodes(domain, episodes)
  found = found._replace(
      data={
          'num_episodes': len(episodes),
          'is_play': not run_dataset.are_attempts(episodes),
          **_scores(data),
      }
  )
  _write(path, found)
  clone: ContextManager[served_controls.Evaluate]
  if _is_served(run_dir):
    clone = served_controls.evaluations(run_dir, domain)
  else:
    clone = contextlib.nullcontext(
        _clone(run_dir, domain, run_dataset.statistics(domain, episodes))
    )
  evaluator = evaluation.Evaluator(
      domain, num_episodes=num_episodes, seed=run_directory.read_seed(run_dir)
  )
  with contextlib.closing(evaluator), clone as evaluate:
    for temperature in missing:
      result = evaluate(evaluator, float(temperature))
      scores = None
      if result is not None:
        scores = {**_scores(result), 'outcomes': result.outcomes}
      if scores is not None:
        logging.info(
            '%s: the clone at temperature %s has success %.3f.',
            run_dir,
            temperature,
            scores['success_rate'],
        )
      found = found._replace(clone={**found.clone, temperature: scores})
      _write(path, found)


def _clone(run_dir: str, domain, normalization) -> served_controls.Evaluate:
  """Returns a function that evaluates the run's clone at a temperature."""
  seed = run_directory.read_seed(run_dir)
  agent = experiment.make_agent(domain, normalization, seed)
  clone = phase_checkpoint.PhaseCheckpoint(find_clone(run_dir), _CLONING)
  clone.check_task(domain)
  clone.load(agent, normalization, with_critic=False)

  return lambda evaluator, temperature: evaluator.run_policy(
      alone(agent, temperature)
  )


def alone(agent, temperature: float) -> parl_policy.PARLPolicy:
  """Returns the policy of an agent that draws one sample of its own.

  Args:
    agent: `PARLAgent`.
    temperature: Scale of the policy's noise.
  """
  # All arguments, because gin binds those of the run's search.
  search = action_source.Search(
      num_samples=1, optimizer=None, selection='sample', temperature=temperature
  )
  return parl_policy.PARLPolicy(
      agent.time_step_spec,
      agent.action_spec,
      acting_search.ActingSearch(
          search,
          agent.generative_policy,
          None,
          agent.time_step_spec.observation,
      ),
      chunk_length=agent.chunk_length,
  )


def _configure(run_dir: str):
  """Makes gin hold the configuration of a run; returns its domain."""
  gin.clear_config()
  configs.add_search_path()
  configs.parse([os.path.abspath(run_directory.config_path(run_dir))])
  return domain_lib.select_domain()


def _is_served(run_dir: str) -> bool:
  return served_controls.is_served(run_files.read_config(run_dir)[1])


@contextlib.contextmanager
def _from_base(run_dir: str) -> Iterator[None]:
  """Makes the server of a served policy use its base meanwhile."""
  if not _is_served(run_dir):
    yield
    return
  with served_controls.base(run_dir, _configure(run_dir)):
    yield


def self_distillation(run_dir: str) -> Optional[SelfDistillation]:
  """Returns the arguments for self-distillation from the clone of a run.

  Args:
    run_dir: The run's directory.

  Returns:
    The arguments; None if the run has no online phase.

  Raises:
    ValueError: If the run has no clone, or an online phase without replay.
  """
  config_path = os.path.abspath(run_directory.config_path(run_dir))
  seed, settings = run_files.read_config(run_dir)
  is_served = served_controls.is_served(settings)
  clone = '' if is_served else find_clone(run_dir)
  phases = _setting(settings, 'run_experiment.phase_names', "('online',)")
  length = 'ServedOnline.num_epochs' if is_served else 'Online.num_episodes'
  if "'online'" not in phases or _setting(settings, length) == '0':
    return None
  root_dir = os.path.join(run_dir, 'controls', _METHOD, f'seed_{seed}')
  if is_served:
    return SelfDistillation(
        root_dir=root_dir,
        gin_files=(config_path,),
        gin_bindings=(
            *served_controls.GIN_BINDINGS, *_data_binding(run_dir, settings),
        ),
        seed=seed,
    )
  online = _setting(settings, 'run_experiment.online_ctor', '@Online')
  if re.split(r'[@./]', online)[-1] != 'Online':
    raise ValueError(
        f'{config_path}: self-distillation needs `run_experiment.online_ctor ='
        f' @Online`, got {online}.'
    )
  return SelfDistillation(
      root_dir=root_dir,
      gin_files=(config_path, 'methods/self_distillation.gin'),
      gin_bindings=(
          *(
              f'{scope}Search.{name} = {value}'
              for scope in _SCOPES
              for name, value in _SEARCH.items()
          ),
          f'run_experiment.initial_run = {clone!r}',
          f'run_experiment.initial_phase = {_CLONING!r}',
          # Nobody deploys a control.
          'run_experiment.exported_policies = ()',
      ),
      seed=seed,
  )


def _data_binding(
    run_dir: str, settings: Mapping[str, str]
) -> Sequence[str]:
  """Returns bindings to the data of a run, unless its own binding has them."""
  if _setting(settings, 'run_experiment.dataset_path', 'None') != 'None':
    return ()
  initial_run = run_files.read_initial_run(run_dir)
  path = os.path.join(run_dir, initial_run_lib.DATA)
  if initial_run is not None and initial_run.dataset_path:
    path = initial_run.dataset_path
  return (
      f'run_experiment.dataset_path = {os.path.abspath(path)!r}',
      'run_experiment.num_recorded_steps = None',
  )


def write_self_distillation(run_dir: str, folder: str) -> None:
  """Adds the finished run of self-distillation to `controls.json`.

  Args:
    run_dir: The run's directory.
    folder: Directory of the run of self-distillation.

  Raises:
    ValueError: If the run of self-distillation has not been evaluated, or the
      other controls have not been measured.
  """
  run = runs_lib.read_run(folder, _METHOD)
  result = runs_lib.phase_result(run, 'online')
  if result is None:
    raise ValueError(f'{folder} must have been evaluated online, but has not.')
  found = controls.read(run_dir)
  if found is None:
    raise ValueError(
        f'{run_dir} needs {controls.FILE}, which `measure` writes.'
    )
  metrics = run.metrics
  rates = metrics.column('success_rate_without_search')
  rates = rates[(metrics.phases == 'online') & np.isfinite(rates)]
  temperature = _setting(
      run.settings,
      'training/Search.temperature',
      _setting(run.settings, 'Search.temperature', '1.0'),
  )
  last = [x for x in evaluations.read(folder) if x.policy == 'alone'][-1:]
  scores = {
      'success_rate': result.success_rate_without_search,
      'score': result.score_without_search,
      'steps_to_success': result.steps_to_success_without_search,
      'mean_return': result.mean_return_without_search,
  }
  _write(
      os.path.join(run_dir, controls.FILE),
      found._replace(
          self_distillation={
              'temperature': float(temperature),
              'num_online_episodes': int(metrics.column('episodes')[-1]),
              'best_success_rate': float(np.max(rates)),
              'outcomes': ''.join(
                  str(int(x)) for own in last for x in own.successes
              ),
              # NaN, which is not JSON, means that it is undefined.
              **{k: None if x != x else x for k, x in scores.items()},
          }
      ),
  )


def _setting(settings: Mapping[str, str], name: str, default: str = '') -> str:
  """Returns a gin binding as text, with a macro resolved."""
  return run_files.resolve(settings.get(name, default), settings)


def _num_evaluation_episodes(run_dir: str) -> int:
  """Returns the number of episodes of the run's own evaluations."""
  numbers = run_files.read_metrics(run_dir).column('num_evaluation_episodes')
  numbers = numbers[np.isfinite(numbers)]
  if not numbers.size:
    raise ValueError(f'{run_dir} must have been evaluated, but has not.')
  return int(numbers[-1])


def _scores(result: evaluation_result.EvaluationResult) -> Dict[str, Any]:
  return {name: getattr(result, name) for name in _SCORES}


def _write(path: str, found: controls.Controls) -> None:
  content: Mapping[str, Any] = found._asdict()
  with synced_file.write(path) as file:
    file.write((json.dumps(content, indent=2, allow_nan=False) + '\n').encode())
