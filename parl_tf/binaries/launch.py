"""Launches all roles of a distributed run, here or on a Ray cluster.

  parl-launch --root_dir runs/maze --gin_file quickstart.gin --num_collectors 2

A replay service, a learner, collectors and an evaluator, each kept alive: one
that dies is started anew, and goes on where it was. What they print is gathered
in `logs` of the root directory. Ctrl-C stops all; the same command goes on.
"""

from typing import Sequence

from absl import app
from absl import flags

from parl_tf.binaries import console
from parl_tf.binaries import run_flags
from parl_tf.training import devices


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns the exit status."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  # Imported here, so that an installation without Reverb gets one line.
  from parl_tf.distributed import launcher

  return launcher.launch(flags.FLAGS)


def run() -> None:
  """Console entry point."""
  console.run('parl-launch', main, _define_flags)


def _define_flags():
  run_flags.define()
  flags.DEFINE_integer('num_collectors', 1, 'Collectors.', lower_bound=1)
  flags.DEFINE_integer(
      'num_evaluation_episodes',
      32,
      'Episodes of an evaluation beside the learner; 0 for no evaluator.',
      lower_bound=0,
  )
  flags.DEFINE_float(
      'collector_cpus', 0.0, 'Cores that Ray reserves for a collector.'
  )
  flags.DEFINE_float(
      'collector_gpus',
      0.0,
      'GPUs, or the share of one, that Ray reserves for a collector; with 0 it'
      ' acts on cores.',
  )
  flags.DEFINE_float(
      'learner_gpus', 0.0, 'GPUs that Ray reserves for the learner.'
  )
  flags.DEFINE_enum(
      'strategy',
      'default',
      devices.STRATEGIES,
      'Devices of the learner: one, or all, which share the rows of a step.',
  )
  flags.DEFINE_integer('port', None, 'Of the replay service; None: a free one.')
  flags.DEFINE_string(
      'ray_address', None, 'Of a Ray cluster; None: this machine alone.'
  )


if __name__ == '__main__':
  run()
