r"""Collects episodes with the learner's weights for a replay service.

  parl-collect --root_dir runs/maze --gin_file quickstart.gin \
    --gin_file distributed.gin --replay localhost:9000 --collector 0

Each finished episode is stored in `spool` under the root directory, then sent
to the service. Rerun the same command to resume: it first sends the episodes
that have not arrived.
"""

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
  from parl_tf.distributed import collector_role

  options = flags.FLAGS
  configs.parse(options.gin_file, options.gin_bindings)
  third_party_messages.silence_first_compilation()
  num_episodes = collector_role.collect(
      options.root_dir, options.seed, options.collector, options.replay
  )
  print(f'Collector {options.collector} collected {num_episodes} episodes.')


def run() -> None:
  """Console entry point."""
  console.run(
      'parl-collect', main, _define_flags, is_resumable=True, cleans_up=True
  )


def _define_flags():
  run_flags.define()
  flags.DEFINE_integer(
      'collector',
      0,
      'Number of this collector, unique in the run.',
      lower_bound=0,
  )
  flags.DEFINE_string(
      'replay', 'localhost:9000', 'host:port of the replay service.'
  )


if __name__ == '__main__':
  run()
