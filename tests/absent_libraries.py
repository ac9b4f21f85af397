"""Runs Python as if some libraries were not installed."""

import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Dict, List, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Python imports `sitecustomize` from its path at startup.
_HIDING = """
import sys

class Absent:
  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in {absent}:
      raise ModuleNotFoundError('No module named ' + repr(name), name=name)

sys.meta_path.insert(0, Absent())
"""

# Runs modules one after the other, each in a fork, and prints their statuses.
# Before it forks, it imports packages that are slow to import and import none
# of our modules.
_FORKS = """
import os, runpy, sys
import tensorflow, tf_agents.agents
commands = eval(sys.argv[1])
for number, command in enumerate(commands):
  child = os.fork()
  if not child:
    os.dup2(os.open(str(number), os.O_CREAT | os.O_WRONLY), sys.stderr.fileno())
    os.chdir({root!r})
    sys.argv = command
    runpy.run_module(command[0], run_name='__main__', alter_sys=True)
    sys.exit()
  print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def environment(absent: Sequence[str], folder: str) -> Dict[str, str]:
  """Returns the environment of a Python process without some libraries.

  Args:
    absent: Libraries to hide.
    folder: Existing directory for a file that the process reads at its start.
  """
  hiding = pathlib.Path(folder, 'sitecustomize.py')
  hiding.write_text(_HIDING.format(absent=tuple(absent)), encoding='utf-8')
  return {**os.environ, 'PYTHONPATH': f'{folder}{os.pathsep}{ROOT}'}


def run(
    absent: Sequence[str], *arguments: str
) -> subprocess.CompletedProcess:
  """Runs Python in the root of the repository and waits for it to exit.

  Args:
    absent: Libraries to hide.
    *arguments: Arguments of the interpreter, such as `-c` and a program.
  """
  with tempfile.TemporaryDirectory() as folder:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(absent, folder),
        capture_output=True,
        text=True,
        check=False,
    )


def run_modules(
    absent: Sequence[str], commands: Sequence[Sequence[str]]
) -> List[subprocess.CompletedProcess]:
  """Runs several modules as `python -m` does, in forks of one process.

  Args:
    absent: Libraries to hide.
    commands: The name of each module and its arguments.

  Returns:
    The status and the standard error of each.
  """
  with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            _FORKS.format(root=str(ROOT)),
            repr([list(command) for command in commands]),
        ],
        cwd=folder,
        env=environment(absent, folder),
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        subprocess.CompletedProcess(
            command,
            int(status),
            stderr=pathlib.Path(folder, str(number)).read_text('utf-8'),
        )
        for number, (command, status) in enumerate(
            zip(commands, done.stdout.split())
        )
    ]
