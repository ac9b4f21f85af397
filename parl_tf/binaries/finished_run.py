"""A finished run: recognized without TensorFlow, and described as text."""

import math
import os
import shlex
from typing import Dict, Mapping, Optional, Sequence, Tuple

from absl import logging

from parl_tf.binaries import configs
from parl_tf.reports import run_files
from parl_tf.reports import run_pictures
from parl_tf.training import run_directory
from parl_tf.training import run_summary
from parl_tf.training import setbacks

_PHASE_TITLES = {'offline': 'offline RL', 'behavior_cloning': 'cloning'}


def digest(
    gin_files: Sequence[str], gin_bindings: Sequence[str], seed: int
) -> str:
  """Returns a text that is equal only for commands that give the same run."""
  return f'{seed}\n{configs.digest(gin_files, gin_bindings)}'


def summary(root_dir: str, digest: str) -> Optional[run_summary.RunSummary]:
  """Returns the summary of a run that leaves nothing to do, else None.

  The paths of its policies are under `root_dir`, even if the run was copied or
  moved.

  Args:
    root_dir: The run's directory; it may be missing.
    digest: Digest of the command.
  """
  if run_directory.finished_mark(root_dir) != digest:
    return None
  found = run_summary.read(os.path.join(root_dir, run_files.SUMMARY))
  policies = _policies(found.policies, root_dir)
  found = found._replace(policies=policies)
  best = {}
  if found.best is not None:
    best = _policies(found.best.policies, root_dir, 'best')
    found = found._replace(best=found.best._replace(policies=best))
  if not all(map(os.path.isdir, [*policies.values(), *best.values()])):
    return None
  logging.info('The run in %s is finished.', root_dir)
  return found


def describe(summary: run_summary.RunSummary, root_dir: str) -> str:
  """Returns a human-readable summary of a run."""
  counts = {phase.num_evaluation_episodes for phase in summary.phases.values()}
  evaluations = 'not evaluated'
  if any(counts):
    numbers = ' or '.join(map(str, sorted(counts)))
    evaluations = f'evaluated over {numbers} episodes'
  lines = [
      '',
      f'{summary.domain}, seed {summary.seed}, {evaluations}',
      *_beginning(summary.initial_run),
      'Success: rate, and mean environment steps to success.',
      _row('', 'success', 'without search', 'training steps', 'env steps', 's'),
  ]
  if summary.controller_success_rate is not None:
    lines.append(_row('controller', _rate(summary.controller_success_rate)))
  if summary.data_success_rate is not None:
    lines.append(_row('data', _rate(summary.data_success_rate)))
  for name, phase in summary.phases.items():
    lines.append(
        _row(
            name,
            _rate(phase.success_rate, phase.steps_to_success),
            _rate(
                phase.success_rate_without_search,
                phase.steps_to_success_without_search,
            ),
            phase.train_steps,
            phase.env_steps,
            f'{phase.wall_seconds:.0f}',
        )
    )
  best = summary.best
  if best is not None:
    lines.append(
        _row(
            'best online',
            _rate(best.success_rate),
            _rate(best.success_rate_without_search),
            best.train_step,
        )
    )
  total = summary.wall_seconds
  rest = total - sum(phase.wall_seconds for phase in summary.phases.values())
  for name, seconds in (('start and export', rest), ('total', total)):
    lines.append(_row(name, '', '', '', '', f'{seconds:.0f}'))
  lines += _returns(summary)
  plot = os.path.join(root_dir, run_pictures.LEARNING_CURVE)
  lines += ['', f'Learning curve: {plot}']
  starts = os.path.join(root_dir, run_pictures.START_MAP)
  if os.path.exists(starts):
    lines.append(f'Successes by start: {starts}')
  if best is not None:
    lines += _start_values(root_dir)
    text = (
        f'Success fell after {best.episodes} online episodes; for causes, see'
        ' docs/troubleshooting.md.'
    )
    if best.policies:
      text += ' The policies of that evaluation:'
    if best.policy_version:
      text += (
          " In that evaluation the policy's server had version"
          f' {best.policy_version}; --checkpoint best of parl-evaluate and'
          ' parl-serve has its critic.'
      )
    lines.append(text)
    lines += [f'SavedModel: {path}' for path in best.policies.values()]
    if (
        'base_policy' in best.policies
        and best.success_rate_without_search > best.success_rate
    ):
      lines.append('Of these, base_policy succeeded more often.')
    if best.policies:
      lines.append('Those of the last step:')
  lines += [f'SavedModel: {path}' for path in summary.policies.values()]
  if summary.policy_version:
    lines.append(
        f'Policy: version {summary.policy_version}, which its server has, and'
        ' saves in its `directory`.'
    )
  earlier = _better_phase(summary)
  if earlier is not None:
    name, is_alone = earlier
    alone = ' of the policy alone' if is_alone else ''
    lines.append(
        f'Success{alone} was higher after {_PHASE_TITLES[name]} than online.'
    )
    # A run that began from another one has no checkpoint of that run's phases.
    if summary.policies and os.path.isdir(
        os.path.join(root_dir, run_files.PHASE_CHECKPOINTS, name)
    ):
      lines.append(
          'To export that policy: parl-export --root_dir'
          f' {shlex.quote(root_dir)} --checkpoint {name}'
          f'{" --policy base_policy" if is_alone else ""} --output'
          f' {name}_policy'
      )
  elif 'base_policy' in summary.policies and _needs_no_search(summary):
    lines.append(
        'base_policy succeeds as often without search, and acts faster.'
    )
  return '\n'.join(lines)


def _returns(summary: run_summary.RunSummary) -> Sequence[str]:
  """Describes the mean returns of a run in which nothing succeeded."""
  rates = [summary.controller_success_rate, summary.data_success_rate]
  for phase in summary.phases.values():
    rates += [phase.success_rate, phase.success_rate_without_search]
  if any(rates) or summary.best is not None:
    return []
  rows = [
      _row(
          name,
          _return(phase.mean_return),
          _return(phase.mean_return_without_search),
      )
      for name, phase in summary.phases.items()
      if (phase.mean_return, phase.mean_return_without_search) != (None, None)
  ]
  if not rows:
    return []
  return [
      '',
      'No success. Mean undiscounted return, after reward scale and bias.',
      _row('', 'return', 'without search'),
      *rows,
  ]


def _start_values(root_dir: str) -> Sequence[str]:
  """Describes what the critic predicted in the last evaluation, if it did."""
  if not os.path.exists(os.path.join(root_dir, run_files.METRICS)):
    return []
  try:
    metrics = run_files.read_metrics(root_dir)
  except ValueError as error:
    logging.warning('No prediction of the critic to show: %s', error)
    return []
  pairs = [
      (value, realised)
      for phase, value, realised in zip(
          metrics.phases,
          metrics.columns.get('values/start', ()),
          metrics.columns.get('values/start_realised', ()),
      )
      if phase == 'online' and not math.isnan(value + realised)
  ]
  if not pairs:
    return []
  value, realised = pairs[-1]
  return [
      f'The critic valued the start of the last evaluation at {value:.1f};'
      f' the discounted return within the time limit was {realised:.1f}.'
  ]


def _policies(
    recorded: Mapping[str, str], root_dir: str, phase: str = ''
) -> Dict[str, str]:
  """Returns the paths in `root_dir` of policies recorded elsewhere."""
  return {
      name: os.path.join(root_dir, 'policies', phase, os.path.basename(path))
      for name, path in recorded.items()
  }


def _needs_no_search(summary: run_summary.RunSummary) -> bool:
  online = summary.phases.get('online')
  if online is None:
    return False
  rate, alone = online.success_rate, online.success_rate_without_search
  return rate is not None and alone is not None and alone >= rate > 0.0


def _better_phase(
    summary: run_summary.RunSummary,
) -> Optional[Tuple[str, bool]]:
  """Returns the earlier phase that succeeded most, if online success is worse.

  Returns:
    The phase and whether it is the policy alone that succeeded more often; None
    if no difference is beyond chance.
  """
  online = summary.phases.get('online')
  if online is None:
    return None
  reached = setbacks.better_outcomes(online._asdict())
  if summary.best is not None:
    reached = summary.best.outcomes
  earlier = [
      (rate, is_alone, name, outcomes)
      for name in ('offline', 'behavior_cloning')
      if (phase := summary.phases.get(name)) is not None
      for is_alone, rate, outcomes in (
          (False, phase.success_rate, phase.outcomes),
          (True, phase.success_rate_without_search,
           phase.outcomes_without_search),
      )
      if rate is not None and outcomes
  ]
  if not earlier:
    return None
  _, is_alone, name, outcomes = max(earlier, key=lambda x: x[0])
  is_worse = setbacks.is_worse(reached, outcomes, num_compared=len(earlier))
  return (name, is_alone) if is_worse else None


def _beginning(initial_run: Optional[run_files.InitialRun]) -> Sequence[str]:
  return [f'Began from {initial_run.describe()}.'] if initial_run else []


def _row(name: str, *cells) -> str:
  widths = (14, 16, 16, 11, 7)
  columns = (f'{cell:>{width}}' for cell, width in zip(cells, widths))
  return f'  {name:16s}{"".join(columns)}'


def _rate(
    success_rate: Optional[float], num_steps: Optional[float] = None
) -> str:
  if success_rate is None:
    return ''
  time = '' if num_steps is None else f' in {num_steps:.0f}'
  return f'{success_rate:.3f}{time}'


def _return(mean_return: Optional[float]) -> str:
  return '' if mean_return is None else f'{mean_return:.1f}'
