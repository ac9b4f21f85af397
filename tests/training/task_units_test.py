"""Tests of the units of a run's actions."""

import os
from unittest import mock

from absl.testing import absltest
import numpy as np

from parl_tf.training import task_units


def _domain(scale=1.0, **attributes):
  bounds = np.float32([[-scale, -0.1], [scale, 0.1]])
  return mock.Mock(spec=['raw_action_bounds', *attributes],
                   raw_action_bounds=bounds, **attributes)


class TaskUnitsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root_dir = self.create_tempdir().full_path

  def _begin_run(self):
    folder = os.path.join(self._root_dir, 'checkpoints')
    os.makedirs(folder)
    open(os.path.join(folder, 'checkpoint'), 'w').close()

  def test_other_bounds_are_refused_once_the_run_has_begun(self):
    task_units.claim(self._root_dir, _domain())
    task_units.claim(self._root_dir, _domain(scale=2.0))
    self._begin_run()
    task_units.claim(self._root_dir, _domain(scale=2.0))
    for refuse in task_units.claim, task_units.check:
      with self.assertRaisesRegex(
          ValueError,
          r'units.json: `raw_action_bounds` .* \[\[-2.0, .*began, got \[\[-4',
      ):
        refuse(self._root_dir, _domain(scale=4.0))

  def test_another_rate_is_refused(self):
    task_units.claim(self._root_dir, _domain(control_rate=5.0))
    with self.assertRaisesRegex(ValueError, '`control_rate` .* 5.0, .*got 20'):
      task_units.check(self._root_dir, _domain(control_rate=20.0))

  def test_runs_of_earlier_versions_have_no_file(self):
    task_units.check(self._root_dir, _domain())
    self.assertEmpty(os.listdir(self._root_dir))


if __name__ == '__main__':
  absltest.main()
