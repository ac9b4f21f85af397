"""Runs all roles of a distributed run, on this machine or a Ray cluster.

  parl-launch --root_dir runs/maze --gin_file quickstart.gin --num_collectors 2

The roles are a replay service, a learner, collectors and an evaluator. A role
that dies is restarted and resumes its work. Their output is in `logs` under the
root directory. Ctrl-C stops all roles; rerun the same command to resume.
"""

import os
from typing import Sequence

from absl import app
from absl import flags
import gin

from parl_tf.binaries import configs
from parl_tf.binaries import console
from parl_tf.binaries import run_flags

_NUM_EPISODES = 32  # The default of `run_experiment`.


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns the exit status."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  # Imported here: `--help` and usage errors do not wait for TensorFlow, and a
  # missing Reverb gives a one-line error.
  from parl_tf.binaries import finished_run
  from parl_tf.distributed import launch_check
  from parl_tf.distributed import launcher
  from parl_tf.reports import run_files
  from parl_tf.training import run_summary

  options = flags.FLAGS
  configs.parse([*options.gin_file, 'distributed.gin'], options.gin_bindings)
  launch_check.check()
  if options.num_evaluation_episodes is None:
    options.num_evaluation_episodes = gin.get_bindings('run_experiment').get(
        'num_evaluation_episodes', _NUM_EPISODES
    )
  status = launcher.launch(options)
  root_dir = os.path.join(options.root_dir, 'learner')
  path = os.path.join(root_dir, run_files.SUMMARY)
  if not status and os.path.exists(path):
    print(finished_run.describe(run_summary.read(path), root_dir))
  return status


def run() -> None:
  """Console entry point."""
  console.run(
      'parl-launch', main, _define_flags, cleans_up=True
  )


def _define_flags():
  run_flags.define()
  flags.DEFINE_integer(
      'num_collectors', 1, 'Number of collectors.', lower_bound=1
  )
  flags.DEFINE_integer(
      'num_evaluation_episodes',
      None,
      'Episodes of each evaluation by the evaluator, of which 0 disables it; by'
      ' default, as many as the learner evaluates.',
      lower_bound=0,
  )
  flags.DEFINE_float(
      'collector_cpus', 0.0, 'CPU cores that Ray reserves for each collector.'
  )
  flags.DEFINE_float(
      'collector_gpus',
      0.0,
      'GPUs, or the fraction of one, that Ray reserves for each collector; with'
      ' 0, collectors run on the CPU.',
  )
  flags.DEFINE_float(
      'learner_gpus', 0.0, 'GPUs that Ray reserves for the learner.'
  )
  flags.DEFINE_enum(
      'strategy',
      'default',
      run_flags.STRATEGIES,
      'Devices of the learner: default uses one, mirrored splits each batch'
      ' among all GPUs.',
  )
  flags.DEFINE_integer(
      'port',
      None,
      'Port of the replay service; by default, a free one.',
      lower_bound=0,
      upper_bound=65_535,
  )
  flags.DEFINE_string(
      'ray_address',
      None,
      'Address of a Ray cluster; by default, all roles run on this machine.',
  )


if __name__ == '__main__':
  run()
