"""Tests of the file with the episodes of all evaluations."""

import os
from unittest import mock

from absl.testing import absltest
import numpy as np

from parl_tf.training import evaluation_result
from parl_tf.training import evaluations_file
from parl_tf.training import metrics_log

_HEADER = (
    'metrics_row,phase,train_step,episodes,policy,start,success,'
    'steps_to_success,return'
)


def _result(successes, returns):
  return evaluation_result.EvaluationResult(
      episodes=(mock.Mock(),) * len(successes),
      score=0.0,
      successes=np.array(successes, bool),
      success_steps=np.where(successes, 12.0, np.nan),
      returns=np.array(returns, np.float32),
  )


_SEARCH = {'search': _result([True, False], [-12.1, -40.0])}
_BOTH = {**_SEARCH, 'alone': _result([False, False], [-40.0, -40.0])}


class EvaluationsFileTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path
    self._path = os.path.join(self._root, 'evaluations.csv')

  def _write(self, log, train_step, evaluations=None):
    log.write(
        phase='online',
        train_step=train_step,
        env_steps=0,
        episodes=7,
        wall_seconds=0.0,
        evaluations=evaluations,
    )

  def _lines(self):
    with open(self._path, encoding='utf-8') as file:
      return file.read().splitlines()

  def test_each_episode_of_each_policy_has_a_row(self):
    with metrics_log.MetricsLog(self._root) as log:
      self._write(log, 10)
      self._write(log, 20, _BOTH)
      found = self._lines()  # It is in the file at once.
    self.assertEqual(
        found,
        [
            _HEADER,
            '1,online,20,7,search,0,1,12,-12.1000004',
            '1,online,20,7,search,1,0,,-40',
            '1,online,20,7,alone,0,0,,-40',
            '1,online,20,7,alone,1,0,,-40',
        ],
    )
    self.assertEqual(
        np.float32('-12.1000004'), _SEARCH['search'].returns[0]
    )

  def test_a_restart_keeps_the_episodes_of_kept_rows(self):
    with metrics_log.MetricsLog(self._root) as log:
      for step in (10, 20, 30):
        self._write(log, step, _SEARCH)
    with open(self._path, 'a', encoding='utf-8') as file:
      file.write('3,online,40,7,search,0,1')  # A kill cut it off.
    for num_rows, wanted in ((None, 3), (2, 2), (0, 0)):
      with metrics_log.MetricsLog(self._root, resume_rows=num_rows):
        rows = [line.split(',')[0] for line in self._lines()[1:]]
      self.assertEqual(rows, [str(i) for i in range(wanted) for _ in range(2)])

  def test_a_run_of_an_earlier_version_continues(self):
    with metrics_log.MetricsLog(self._root) as log:
      self._write(log, 10)
    os.remove(self._path)
    with metrics_log.MetricsLog(self._root, resume_rows=1) as log:
      self._write(log, 20, _SEARCH)
    self.assertLen(self._lines(), 3)

  def test_other_columns_are_an_error(self):
    for header in ('metrics_row,phase', ''):
      with open(self._path, 'w', encoding='utf-8') as file:
        file.write(f'{header}\n')
      with self.assertRaisesRegex(
          ValueError, f'{self._path} must have the columns {_HEADER}, got'
      ):
        evaluations_file.EvaluationsFile(self._root, 1)


if __name__ == '__main__':
  absltest.main()
