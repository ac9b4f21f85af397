"""The flags that every command on a run has."""

from absl import flags


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
