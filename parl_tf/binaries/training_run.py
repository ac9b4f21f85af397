"""Runs or resumes a training."""

import functools
import time
from typing import Sequence

from absl import logging

from parl_tf import interruption
from parl_tf.binaries import configs
from parl_tf.binaries import finished_run
from parl_tf.binaries import third_party_messages
from parl_tf.training import compilation
from parl_tf.training import devices
from parl_tf.training import experiment
from parl_tf.training import run_directory
from parl_tf.training import run_summary


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
  digest = finished_run.digest(gin_files, gin_bindings, seed)
  if run_directory.is_finished(root_dir, seed):
    # Another command may have the same configuration.
    run_directory.mark_finished(root_dir, digest)
    finished = finished_run.summary(root_dir, digest)
    if finished is not None:
      return finished
  started = time.monotonic()
  shared = devices.make_strategy(strategy)
  third_party_messages.silence_first_compilation()
  with run_directory.hold(root_dir), compilation.errors_explained():
    with interruption.turns():
      summary = experiment.run_experiment(
          root_dir,
          seed,
          strategy=shared,
          on_agent=functools.partial(
              configs.warn_of_unused, gin_files, gin_bindings
          ),
      )
    run_directory.mark_finished(root_dir, digest)
  logging.info('This session took %.0f s.', time.monotonic() - started)
  return summary
