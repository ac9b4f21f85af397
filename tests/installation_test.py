"""Tests that the page on installation installs a library that works."""

import os
import shutil
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import pytest

from tests import pages

_PAGE = 'docs/installation.md'
_LEFT_OUT = shutil.ignore_patterns('.*', 'build', 'runs', '*.egg-info')


@pytest.mark.full
class InstallationTest(parameterized.TestCase):
  """Runs the page's commands of pip, in a copy of the checkout.

  The variable PYTHON_312 names a Python 3.12; by default it is `python3.12`.
  """

  @parameterized.parameters(
      ('constraints.txt', sys.executable),
      ('constraints-3.12.txt', os.environ.get('PYTHON_312', 'python3.12')),
  )
  def test_pip_installs_what_the_doctor_and_a_recording_need(
      self, constraints, python
  ):
    folder = self.create_tempdir().full_path
    checkout = os.path.join(folder, 'checkout')
    shutil.copytree(pages.ROOT, checkout, ignore=_LEFT_OUT)
    environment = os.path.join(folder, 'environment')
    subprocess.run([python, '-m', 'venv', environment], check=True)
    commands = [
        line
        for line in pages.lines(_PAGE)
        if line.startswith(f'pip install -c {constraints} ')
    ]
    self.assertNotEmpty(commands)
    path = os.path.join(environment, 'bin') + os.pathsep + os.environ['PATH']
    work = os.path.join(folder, 'work')
    os.mkdir(work)
    for command, directory in (
        *((command, checkout) for command in commands),
        ('parl-doctor --root_dir runs', work),
        ('parl-data generate pointmaze --output m.hdf5 --num_steps 600', work),
    ):
      result = subprocess.run(
          command,
          shell=True,
          cwd=directory,
          env={**os.environ, 'PATH': path, 'PYTHONPATH': ''},
          capture_output=True,
          text=True,
      )
      output = result.stdout + result.stderr
      self.assertEqual(result.returncode, 0, f'{command}\n{output}')
    self.assertTrue(os.path.exists(os.path.join(work, 'm.hdf5')))


if __name__ == '__main__':
  absltest.main()
