"""Tests that a study measures the controls of its runs."""

import subprocess
from unittest import mock

from absl.testing import absltest

from benchmarks import methods
from benchmarks import study_entries
from tests.benchmarks import methods_test


class ControlsTest(methods_test.StudyCase):

  def test_finished_runs_of_entries_with_controls_are_measured(self):
    jobs = [self._job(), self._job('fail', seed=1), self._job(name='walk/b')]
    self._run(*jobs)
    entries = [
        study_entries.Entry('walk/a', (), (), (0, 1), None, controls=True),
        study_entries.Entry('walk/b', (), (), (0,), None),
    ]

    with mock.patch.object(subprocess, 'run') as run:
      methods.measure_controls(entries, jobs, num_processes=2)

    (command,), _ = run.call_args
    self.assertEqual(command[1:3], ['-m', 'benchmarks.controls'])
    self.assertEqual(
        [x for x in command if x.startswith('--runs')],
        [f'--runs={jobs[0].folder}'],
    )

  def test_nothing_is_started_without_such_runs(self):
    jobs = [self._job()]
    self._run(*jobs)
    entry = study_entries.Entry('walk/a', (), (), (0,), None)

    with mock.patch.object(subprocess, 'run') as run:
      self.assertEqual(methods.measure_controls([entry], jobs, 2), 0)

    run.assert_not_called()


if __name__ == '__main__':
  absltest.main()
