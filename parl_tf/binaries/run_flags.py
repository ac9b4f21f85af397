"""The flags that every command on a run has."""

from absl import flags

from parl_tf.training import devices


def define() -> None:
  """Defines them; called by a command's entry point, not by its import."""
  flags.DEFINE_string(
      'root_dir', None, 'Directory of the run, made or resumed.', required=True
  )
  flags.DEFINE_multi_string(
      'gin_file', None, 'gin files, merged in order.', required=True
  )
  flags.DEFINE_multi_string('gin_bindings', [], 'gin bindings, read last.')
  flags.DEFINE_integer('seed', 0, 'Seed of the run.', lower_bound=0)


def define_strategy() -> None:
  """Defines that of a command that trains in its own process."""
  flags.DEFINE_enum(
      'strategy',
      'default',
      devices.STRATEGIES,
      'Trains on one device, or shares the rows of a step among all GPUs.',
  )
