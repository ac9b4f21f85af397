"""Runs Python as if some libraries were not installed."""

import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Dict, Sequence

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
