"""Tests of the steps of long benchmarks."""

import os

from absl.testing import absltest

from benchmarks import attempts


class AttemptsTest(absltest.TestCase):

  def test_a_step_is_done_once_and_failures_are_recorded(self):
    path = os.path.join(self.create_tempdir().full_path, 'steps.json')
    calls = []

    def fail():
      calls.append('fail')
      raise OSError

    steps = attempts.Attempts(path, 'seed 0')
    with self.assertRaises(OSError):
      steps.once('data', fail)
    for _ in range(2):
      attempts.Attempts(path, 'seed 0').once(
          'data', lambda: calls.append('succeed') or 3
      )
    self.assertEqual(calls, ['fail', 'succeed'])
    self.assertEqual(steps.done()['data']['result'], 3)
    self.assertLen(steps._read(), 2)

  def test_other_settings_are_refused_by_name(self):
    path = os.path.join(self.create_tempdir().full_path, 'settings.json')
    for _ in range(2):
      attempts.check_settings(path, {'task': 'maze', 'num_epochs': None})
    with self.assertRaisesRegex(ValueError, "task = 'maze', now 'push'. Ch"):
      attempts.check_settings(path, {'task': 'push', 'num_epochs': None})
    # A flag of a later version.
    attempts.check_settings(path, {'task': 'maze', 'lag': 1})


if __name__ == '__main__':
  absltest.main()
