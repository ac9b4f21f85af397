"""Flags that several programs share."""

from absl import app
from absl import flags

# Those of `parl_tf.training.devices`, which needs TensorFlow.
STRATEGIES = ('default', 'mirrored')


_URLS = ('ws://', 'wss://')


def is_url(policy: str) -> bool:
  """Returns whether a policy is given by the URL of its server."""
  return policy.startswith(_URLS)


def check_url(flag: str, policy: str) -> None:
  """Raises `UsageError` unless a flag has a server's URL, or its host:port."""
  if not is_url(policy) and ('/' in policy or ':' not in policy):
    raise app.UsageError(
        f'--{flag} must be the URL of a server, such as ws://127.0.0.1:8000,'
        f' got {policy}.'
    )


def define() -> None:
  """Defines the flags of programs that create or resume a run."""
  flags.DEFINE_string(
      'root_dir',
      None,
      'Directory of the run to create or resume.',
      required=True,
  )
  define_gin()
  flags.DEFINE_integer('seed', 0, 'Seed of the run.', lower_bound=0)


def define_gin() -> None:
  """Defines the flags of the gin configuration."""
  flags.DEFINE_multi_string(
      'gin_file',
      None,
      'A gin file; later files override earlier ones.',
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
      STRATEGIES,
      'default uses one device, mirrored splits each batch among all GPUs.',
  )


def define_checkpoint() -> None:
  """Defines the flag of programs that act with a run's networks."""
  flags.DEFINE_enum(
      'checkpoint',
      'last',
      ('last', 'offline', 'best'),
      'With --root_dir: the last checkpoint, that at the end of offline RL, or'
      ' that of the best online evaluation.',
  )
