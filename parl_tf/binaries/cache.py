r"""Caches a served policy's action samples for every state of a dataset.

  parl-cache --output runs/cache --gin_file quickstart.gin \
    --dataset runs/quickstart/data.hdf5 \
    --policy ws://127.0.0.1:8000 --policy ws://127.0.0.1:8001

All servers must have the same version of the weights. Rerun the same command
to resume. Offline RL reads the finished cache:

  parl-train ... --gin_bindings 'Offline.action_cache = "runs/cache"'
"""

from typing import Sequence

from absl import app
from absl import flags
import gin

from parl_tf.binaries import configs
from parl_tf.binaries import console
from parl_tf.binaries import run_flags


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  # Imported here: `--help` and usage errors do not wait for TensorFlow.
  from parl_tf.binaries import cache_run
  from parl_tf.training import experiment

  options = flags.FLAGS
  configs.parse(options.gin_file, options.gin_bindings)
  bindings = gin.get_bindings(experiment.run_experiment)
  dataset = options.dataset or bindings.get('dataset_path')
  if not dataset:
    raise app.UsageError(
        '--dataset must be given, because the gin files do not bind'
        ' run_experiment.dataset_path.'
    )
  print(
      cache_run.fill(
          options.output,
          dataset,
          options.policy,
          workers_per_server=options.workers,
          dtype=options.dtype,
          seed=options.seed,
      )
  )


def run() -> None:
  """Console entry point."""
  console.run('parl-cache', main, _define_flags, is_resumable=True)


def _define_flags():
  flags.DEFINE_string(
      'output', None, 'Directory of the cache.', required=True
  )
  flags.DEFINE_multi_string(
      'policy',
      None,
      'ws:// URL of a server of the policy.',
      required=True,
  )
  run_flags.define_gin()
  flags.DEFINE_string(
      'dataset', None, 'Dataset; by default, run_experiment.dataset_path.'
  )
  flags.DEFINE_integer(
      'workers', 1, 'Connections to each server.', lower_bound=1
  )
  flags.DEFINE_enum(
      'dtype', 'float32', ['float16', 'float32'], 'Type of the stored samples.'
  )
  flags.DEFINE_integer('seed', 0, 'Seed of the samples.', lower_bound=0)


if __name__ == '__main__':
  run()
