"""Tests that a study measures the controls of its runs."""

from unittest import mock

from absl.testing import absltest

from benchmarks import methods
from benchmarks import study_entries
from benchmarks import study_process
from tests.benchmarks import methods_test


class ControlsTest(methods_test.StudyCase):

  def test_finished_runs_of_entries_with_controls_are_measured(self):
    jobs = [self._job(), self._job('fail', seed=1), self._job(name='walk/b')]
    self._run(*jobs)
    entries = [
        study_entries.Entry('walk/a', (), (), (0, 1), None, controls=True),
        study_entries.Entry('walk/b', (), (), (0,), None),
    ]

    with mock.patch.object(methods, 'run_jobs') as run:
      methods.measure_controls(entries, jobs, num_processes=2)

    (((job,), num_processes, _), _) = run.call_args
    self.assertEqual(
        job.command[1:],
        ['-m', 'parl_tf.binaries.controls', f'--runs={jobs[0].folder}'],
    )
    self.assertEqual(num_processes, 2)

  def test_nothing_is_started_without_such_runs(self):
    jobs = [self._job()]
    self._run(*jobs)
    entry = study_entries.Entry('walk/a', (), (), (0,), None)

    with mock.patch.object(study_process, 'Process') as process:
      self.assertEqual(methods.measure_controls([entry], jobs, 2), 0)

    process.assert_not_called()


if __name__ == '__main__':
  absltest.main()
