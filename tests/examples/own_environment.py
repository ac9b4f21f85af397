"""Examples that run in a Python environment of their own."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Sequence, Set

from tests import build_files


def imports(directory: pathlib.Path) -> Set[str]:
  """Returns what the files of an example import, packages of ours in full."""
  text = '\n'.join(path.read_text() for path in directory.glob('*.py'))
  packages = re.findall(r'^\s*(?:import|from) (\w+)', text, re.MULTILINE)
  ours = re.findall(
      r'^\s*(?:import|from) (parl_tf[.\w]*)', text, re.MULTILINE
  )
  return set(packages) - {'parl_tf'} | set(ours)


def make(test_class, variable: str, installs: Sequence[Sequence[str]]) -> str:
  """Returns a Python with packages, removed at the end of a test class.

  Args:
    test_class: Class of the tests.
    variable: Environment variable with a Python that has them, to install none.
    installs: Arguments of one call of pip each. This package comes last.
  """
  if variable in os.environ:
    return os.environ[variable]
  directory = tempfile.mkdtemp()
  test_class.addClassCleanup(shutil.rmtree, directory)
  subprocess.run([sys.executable, '-m', 'venv', directory], check=True)
  python = os.path.join(directory, 'bin', 'python')
  for arguments in (*installs, ['--no-deps', str(build_files.ROOT)]):
    subprocess.run(
        [python, '-m', 'pip', 'install', '--quiet', *arguments], check=True
    )
  return python
