"""Exports a policy from a checkpoint of a run as a SavedModel.

  parl-export --root_dir runs/quickstart --output exported/greedy_policy
  parl-export --root_dir runs/quickstart --checkpoint best --output best
  parl-export --root_dir runs/quickstart --base frozen --output steered

The SavedModel is loaded in a new process and compared with the live policy. Its
file `parity.json` has the observations tried, the largest difference, the
latency for 1 and 16 robots, the signature and the versions.

With --gin_file and --gin_bindings, the configuration can differ from that of
the run, for instance in its search (see parl-search).

With --base, the SavedModel samples a frozen policy of any origin and searches
its actions with the critic of the run. It is compared in the same process.
"""

from typing import Sequence

from absl import app
from absl import flags
from absl import logging

from parl_tf.binaries import console
from parl_tf.binaries import outputs
from parl_tf.binaries import run_flags
from parl_tf.binaries import third_party_messages
from parl_tf.training import run_directory

_POLICIES = ('policy', 'greedy_policy', 'base_policy')


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  options = flags.FLAGS
  _check_combination(options)
  run_directory.config_path(options.root_dir)  # Raises without a run.
  outputs.check_saved_model(options.output, overwrite=options.overwrite)
  # Imported here: `--help` and usage errors do not wait for TensorFlow.
  from parl_tf.binaries import run_export

  changes = dict(
      gin_files=options.gin_file, gin_bindings=options.gin_bindings
  )
  third_party_messages.silence_first_compilation()
  if options.base:
    difference = run_export.export_steered(
        options.root_dir,
        options.base,
        options.output,
        threshold=options.threshold,
        checkpoint_name=options.checkpoint,
        **changes,
    )
  else:
    difference = run_export.export_run(
        options.root_dir,
        options.output,
        options.policy,
        options.checkpoint,
        **changes,
    )
  logging.info(
      'The exported and the live policy differ by at most %.1g.',
      difference,
  )
  print(options.output)


def _check_combination(options) -> None:
  """Raises `UsageError` if a flag would have no effect."""
  if not options.base:
    if options['threshold'].present:
      raise app.UsageError('--threshold is for --base only.')
  elif run_flags.is_url(options.base):
    raise app.UsageError(
        f'--base must be the directory of a SavedModel, got {options.base}. For'
        ' a policy that another process serves, use parl-serve --base.'
    )
  elif options['policy'].present:
    raise app.UsageError(
        '--policy cannot be combined with --base, which is the policy.'
    )
  elif options.checkpoint == 'behavior_cloning':
    raise app.UsageError(
        '--checkpoint behavior_cloning has no trained critic for --base.'
    )


def run() -> None:
  """Console entry point."""
  console.run('parl-export', main, _define_flags)


def _define_flags():
  flags.DEFINE_string(
      'root_dir', None, 'Directory of the run.', required=True
  )
  flags.DEFINE_string(
      'output', None, 'Directory of the SavedModel.', required=True
  )
  flags.DEFINE_bool('overwrite', False, 'Replaces a SavedModel in --output.')
  flags.DEFINE_enum(
      'policy', 'greedy_policy', _POLICIES, 'Policy to export.'
  )
  flags.DEFINE_enum(
      'checkpoint',
      'last',
      ('last', 'behavior_cloning', 'offline', 'best'),
      'The last checkpoint, that at the end of a phase, or that of the best'
      ' online evaluation. With --base, its critic is taken.',
  )
  flags.DEFINE_string(
      'base', None, 'Directory of the SavedModel of a policy to steer.'
  )
  flags.DEFINE_float(
      'threshold',
      float('inf'),
      'With --base: keep its action unless the standard deviation of the'
      " critic's members is below this, in units of return.",
      lower_bound=0.0,
  )
  flags.DEFINE_multi_string(
      'gin_file',
      [],
      'A gin file that overrides the configuration of the run, for instance'
      ' its search.',
  )
  flags.DEFINE_multi_string(
      'gin_bindings', [], 'A gin binding, applied after the files.'
  )


if __name__ == '__main__':
  run()
