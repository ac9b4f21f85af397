"""Runs or resumes a training, and describes its results as text."""

import os
import time
from typing import Optional, Sequence

from absl import logging

from parl_tf.binaries import configs
from parl_tf.binaries import third_party_messages
from parl_tf.reports import run_files
from parl_tf.training import devices
from parl_tf.training import experiment
from parl_tf.training import run_directory
from parl_tf.training import run_summary


def describe(summary: run_summary.RunSummary, root_dir: str) -> str:
  """Returns a human-readable summary of a run."""
  counts = {phase.num_evaluation_episodes for phase in summary.phases.values()}
  lines = [
      '',
      f'{summary.domain}, seed {summary.seed}, evaluated over '
      f'{" or ".join(map(str, sorted(counts)))} episodes',
      *_beginning(summary.initial_run),
      'Success: rate, and mean environment steps to success.',
      _row('', 'success', 'without search', 'training steps', 'env steps', 's'),
  ]
  if summary.controller_success_rate is not None:
    lines.append(_row('controller', _rate(summary.controller_success_rate)))
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
  lines.append(_row('total', '', '', '', '', f'{summary.wall_seconds:.0f}'))
  plot = os.path.join(root_dir, 'report', 'learning_curve.png')
  lines += ['', f'Learning curve: {plot}']
  for path in summary.policies.values():
    lines.append(f'SavedModel: {path}')
  return '\n'.join(lines)


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


def train(
    root_dir: str,
    gin_files: Sequence[str],
    gin_bindings: Sequence[str] = (),
    seed: int = 0,
    strategy: str = 'default',
) -> run_summary.RunSummary:
  """Runs or resumes the training that gin files describe.

  If it is finished and its policies are still there, returns its results.

  Args:
    root_dir: The run's directory.
    gin_files: Paths of gin files, merged in order.
    gin_bindings: Gin bindings, applied after the files.
    seed: Seed of the run, at least 0.
    strategy: Name of the devices to train on; see `devices.make_strategy`.

  Returns:
    The summary of the run.

  Raises:
    FileNotFoundError: If a gin file does not exist.
    ValueError: If a gin name is unknown, a value is out of range, the data is
      faulty, the directory belongs to another run, another process uses the
      directory, or there are too few devices.
  """
  configs.parse(gin_files, gin_bindings)
  finished = _finished_summary(root_dir, seed)
  if finished is not None:
    logging.info('The run in %s is finished.', root_dir)
    return finished
  started = time.monotonic()
  shared = devices.make_strategy(strategy)
  third_party_messages.silence_first_compilation()
  with run_directory.hold(root_dir):
    summary = experiment.run_experiment(root_dir, seed, strategy=shared)
  logging.info('This session took %.0f s.', time.monotonic() - started)
  return summary


def _finished_summary(
    root_dir: str, seed: int
) -> Optional[run_summary.RunSummary]:
  """Returns the summary of a run that leaves nothing to do, else None."""
  if not run_directory.is_finished(root_dir, seed):
    return None
  summary = run_summary.read(os.path.join(root_dir, run_files.SUMMARY))
  is_complete = all(map(os.path.isdir, summary.policies.values()))
  return summary if is_complete else None
