"""Tests of the steps that measure a release."""

import os
import pathlib
import subprocess
import sys
from unittest import mock

from absl.testing import absltest

from benchmarks import release


class StepsTest(absltest.TestCase):

  def test_a_step_that_is_done_is_not_repeated(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    command = ['touch', 'made']
    work = folder / 'work'
    release.Steps(folder).run('make', command, work)
    self.assertTrue((work / 'made').exists())
    (work / 'made').unlink()

    steps = release.Steps(folder)
    steps.run('make', command, work)

    self.assertFalse((work / 'made').exists())
    self.assertEqual(list(steps.rows), ['make'])

  def test_a_step_that_fails_raises_and_is_repeated(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    steps = release.Steps(folder)
    command = [sys.executable, '-c', 'raise SystemExit("no space")']

    for _ in range(2):
      with self.assertRaises(subprocess.CalledProcessError):
        steps.run('build', command, folder)

    self.assertEmpty(steps.rows)
    self.assertEqual((folder / 'build.txt').read_text().strip(), 'no space')

  def test_steps_do_not_see_the_checkout(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    command = [
        sys.executable, '-c', 'import os; print("PYTHONPATH" in os.environ)'
    ]
    with mock.patch.dict(os.environ, {'PYTHONPATH': str(folder)}):
      release.Steps(folder).run('see', command, folder)
    self.assertEqual((folder / 'see.txt').read_text().strip(), 'False')


if __name__ == '__main__':
  absltest.main()
