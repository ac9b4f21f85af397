r"""Serves replay: the tables and the episode log of one experiment.

  parl-reverb-server --root_dir runs/maze --gin_file quickstart.gin \
    --gin_file distributed.gin --port 9000

All its data comes from the dataset and from the episode log, `episodes` in the
root directory. It can be killed at any time; a restart restores its contents.
`--check localhost:9000` prints the table sizes of a running service.
"""

import signal
from typing import Sequence

from absl import app
from absl import flags

from parl_tf.binaries import configs
from parl_tf.binaries import console
from parl_tf.training import run_directory


def serve(
    root_dir: str,
    gin_files: Sequence[str],
    gin_bindings: Sequence[str] = (),
    *,
    port: int,
    is_public: bool = False,
) -> None:
  """Serves until SIGTERM or Ctrl-C.

  Args:
    root_dir: Directory that contains the episode log.
    gin_files: Gin files merged in order, the same as for learner and
      collectors.
    gin_bindings: Gin bindings applied last.
    port: TCP port to listen on.
    is_public: Whether other machines may connect.

  Raises:
    OSError: If the port is in use.
    ValueError: If another process serves this directory, or the dataset or the
      log is corrupt.
  """
  # Imported here, so that a missing Reverb gives a one-line error.
  from parl_tf.distributed import experiment_service

  # Two processes that append to one log would use the same file numbers.
  with run_directory.hold(root_dir, 'service.lock'):
    configs.parse(gin_files, gin_bindings)
    service = experiment_service.ExperimentService(
        root_dir, port=port, is_public=is_public
    )
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, lambda *_: service.stop())
    service.run()


def check(address: str) -> str:
  """Returns the sizes of the tables of a running service, as text.

  Raises:
    ConnectionError: If the service does not answer in time.
  """
  from parl_tf.distributed import server_link

  tables = server_link.ServerLink(address).tables()
  sizes = (f'{name} {tables[name].current_size}' for name in sorted(tables))
  return f'{address} answers: {", ".join(sizes)}'


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  options = flags.FLAGS
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  if options.check:
    print(check(options.check))
    return
  if not options.root_dir or not options.gin_file:
    raise app.UsageError('Both --root_dir and --gin_file must be given.')
  serve(
      options.root_dir,
      options.gin_file,
      options.gin_bindings,
      port=options.port,
      is_public=options.public,
  )


def run() -> None:
  """Console entry point."""
  console.run(
      'parl-reverb-server',
      main,
      _define_flags,
      is_resumable=True,
      cleans_up=True,
  )


def _define_flags():
  flags.DEFINE_string('root_dir', None, 'Directory of the run.')
  flags.DEFINE_multi_string('gin_file', [], 'Gin files, merged in order.')
  flags.DEFINE_multi_string('gin_bindings', [], 'Gin bindings, applied last.')
  flags.DEFINE_integer('port', 9000, 'TCP port.', lower_bound=1)
  flags.DEFINE_bool(
      'public',
      False,
      'Allows connections from other machines, without encryption or password.'
      ' Use it only on a trusted network.',
  )
  flags.DEFINE_string('check', None, 'host:port of a running service to query.')


if __name__ == '__main__':
  run()
