"""Trains and exports a policy: cloning, offline RL, online fine-tuning.

  parl-train --root_dir runs/quickstart --gin_file quickstart.gin

If no dataset is configured, the program first records one. Rerun the same
command to resume an interrupted run from its last checkpoint.
"""

from typing import Sequence

from absl import app
from absl import flags

from parl_tf.binaries import console
from parl_tf.binaries import finished_run
from parl_tf.binaries import run_flags
from parl_tf.training import run_directory


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  options = flags.FLAGS
  run_directory.check_place(options.root_dir)
  configuration = options.gin_file, options.gin_bindings, options.seed
  summary = finished_run.summary(
      options.root_dir, finished_run.digest(*configuration)
  )
  if summary is None:
    # Imported here: `--help`, usage errors and a finished run do not wait for
    # TensorFlow.
    from parl_tf.binaries import training_run

    summary = training_run.train(
        options.root_dir, *configuration, options.strategy
    )
  print(finished_run.describe(summary, options.root_dir))


def run() -> None:
  """Console entry point."""
  console.run('parl-train', main, _define_flags, is_resumable=True)


def _define_flags():
  run_flags.define()
  run_flags.define_strategy()


if __name__ == '__main__':
  run()
