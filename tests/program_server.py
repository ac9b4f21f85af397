"""Starts programs as forks of one process; see `tests.programs`.

Each line of the standard input describes a program. The answer is a line with
its process id; its exit status is later written to a file.
"""

import gc
import json
import os
import pathlib
import runpy
import signal
import sys

# Imported first, because it selects the version of Keras and hides messages.
import parl_tf.binaries  # noqa: F401 # isort: skip
import gymnasium  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import rich.progress  # noqa: F401
import tensorflow  # noqa: F401
import tf_agents.agents  # noqa: F401


def _run(request) -> None:
  """Turns this process into `python -m module arguments`."""
  output = os.open(request['output'], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  os.dup2(output, 1)
  os.dup2(output, 2)
  os.chdir(request['folder'])
  os.environ.update(request['environment'])
  sys.path.insert(0, request['folder'])
  sys.argv = [request['module'], *request['arguments']]
  runpy.run_module(request['module'], run_name='__main__', alter_sys=True)
  sys.exit()


def _watch(request) -> None:
  """Starts the program and writes its exit status when it ends."""
  signal.signal(signal.SIGCHLD, signal.SIG_DFL)
  program = os.fork()
  if not program:
    _run(request)
  sys.stdout.write(f'{program}\n')
  sys.stdout.flush()
  status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
  path = pathlib.Path(request['status'])
  partial = path.with_suffix('.partial')
  partial.write_text(str(status), encoding='utf-8')
  partial.rename(path)
  os._exit(0)


def main() -> None:
  """Serves until the standard input is closed."""
  # Nobody waits for the watching processes.
  signal.signal(signal.SIGCHLD, signal.SIG_IGN)
  gc.freeze()
  for line in iter(sys.stdin.readline, ''):
    if not os.fork():
      _watch(json.loads(line))


if __name__ == '__main__':
  main()
