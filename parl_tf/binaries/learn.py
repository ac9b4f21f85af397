r"""Trains on the episodes that collectors send to a replay service.

  parl-learn --root_dir runs/maze --gin_file quickstart.gin \
    --gin_file distributed.gin --replay localhost:9000

Behavior cloning and offline RL run in this process, as in `parl-train`. The
online phase trains after each episode in the service's log. Rerun the same
command to resume from the last checkpoint.
"""

import os
from typing import Sequence

from absl import app
from absl import flags

from parl_tf.binaries import configs
from parl_tf.binaries import console
from parl_tf.binaries import run_flags
from parl_tf.binaries import third_party_messages


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  # Imported here: `--help` and usage errors do not wait for TensorFlow, and a
  # missing Reverb gives a one-line error.
  from parl_tf.binaries import finished_run
  from parl_tf.distributed import learner_role
  from parl_tf.training import devices
  from parl_tf.training import run_directory

  options = flags.FLAGS
  configs.parse(options.gin_file, options.gin_bindings)
  root_dir = os.path.join(options.root_dir, 'learner')
  strategy = devices.make_strategy(options.strategy)
  third_party_messages.silence_first_compilation()
  with run_directory.hold(root_dir):
    summary = learner_role.learn(
        root_dir, options.seed, options.replay, strategy
    )
  print(finished_run.describe(summary, root_dir))


def run() -> None:
  """Console entry point."""
  console.run(
      'parl-learn', main, _define_flags, is_resumable=True, cleans_up=True
  )


def _define_flags():
  run_flags.define()
  flags.DEFINE_string(
      'replay', 'localhost:9000', 'host:port of the replay service.'
  )
  run_flags.define_strategy()


if __name__ == '__main__':
  run()
