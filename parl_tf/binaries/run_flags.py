"""The flags of all programs that work on a run."""

from absl import flags

from parl_tf.training import devices


def define() -> None:
  """Defines the flags that all of them have; to be called by `run`."""
  flags.DEFINE_string(
      'root_dir',
      None,
      'Directory of the run, which is created or resumed.',
      required=True,
  )
  define_gin()
  flags.DEFINE_integer('seed', 0, 'Seed of the run.', lower_bound=0)


def define_gin() -> None:
  """Defines the flags of a configuration."""
  flags.DEFINE_multi_string(
      'gin_file',
      None,
      'A gin file; several are merged in order.',
      required=True,
  )
  flags.DEFINE_multi_string(
      'gin_bindings', [], 'A gin binding, applied after the files.'
  )


def define_strategy() -> None:
  """Defines the flag of programs that train in their own process."""
  flags.DEFINE_enum(
      'strategy',
      'default',
      devices.STRATEGIES,
      'Trains on one device, or on all GPUs, which share each batch.',
  )
