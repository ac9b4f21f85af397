"""Trains: data, behaviour cloning, offline RL, online fine-tuning, export.

  parl-train --root_dir runs/quickstart --gin_file quickstart.gin

Run again with the same arguments, it goes on from its last checkpoint.
"""

import os
import time
from typing import Sequence

from absl import app
from absl import flags
from absl import logging

from parl_tf.binaries import configs
from parl_tf.binaries import console
from parl_tf.binaries import run_flags
from parl_tf.training import devices
from parl_tf.training import experiment
from parl_tf.training import run_directory
from parl_tf.training import run_summary


def describe(summary: run_summary.RunSummary, root_dir: str) -> str:
  """Returns what a run came to, as text for people."""
  lines = ['', f'{summary.domain}, seed {summary.seed}']
  if summary.controller_success_rate is not None:
    lines.append(
        f'  controller         success {summary.controller_success_rate:.3f}'
    )
  for name, phase in summary.phases.items():
    rate = phase.success_rate
    searched = '' if rate is None else f'success {rate:.3f}, '
    lines.append(
        f'  {name:18s} {searched}without search '
        f'{phase.success_rate_without_search:.3f} '
        f'({phase.num_evaluation_episodes} episodes, {phase.train_steps} '
        f'training steps, {phase.env_steps} environment steps, '
        f'{phase.wall_seconds:.0f} s)'
    )
  lines.append(f'  {"in all":18s} {summary.wall_seconds:.0f} s')
  picture = os.path.join(root_dir, 'report', 'learning_curve.png')
  lines.append(f'Picture:    {picture}')
  for name, path in summary.policies.items():
    lines.append(f'SavedModel: {path}  ({name})')
  return '\n'.join(lines)


def train(
    root_dir: str,
    gin_files: Sequence[str],
    gin_bindings: Sequence[str] = (),
    seed: int = 0,
    strategy: str = 'default',
) -> run_summary.RunSummary:
  """Runs or resumes what gin files describe.

  Args:
    root_dir: The run's directory.
    gin_files: Merged in order.
    gin_bindings: Read last.
    seed: Of the run, not negative.
    strategy: The devices that it trains on; see `devices.make_strategy`.

  Returns:
    The summary of the run.

  Raises:
    FileNotFoundError: If there is no such gin file.
    ValueError: If a gin name is unknown, a value out of range, the data faulty,
      the directory another run's or another process at work in it, or there are
      too few devices.
  """
  configs.parse(gin_files, gin_bindings)
  started = time.monotonic()
  shared = devices.make_strategy(strategy)
  with run_directory.hold(root_dir):
    summary = experiment.run_experiment(root_dir, seed, strategy=shared)
  logging.info('This session took %.0f s.', time.monotonic() - started)
  return summary


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  options = flags.FLAGS
  summary = train(
      options.root_dir,
      options.gin_file,
      options.gin_bindings,
      options.seed,
      options.strategy,
  )
  print(describe(summary, options.root_dir))


def run() -> None:
  """Console entry point."""
  run_flags.define()
  run_flags.define_strategy()
  console.show_our_messages()
  app.run(main)


if __name__ == '__main__':
  run()
