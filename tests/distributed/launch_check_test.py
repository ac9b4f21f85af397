"""Tests of what is checked before the processes of a run start."""

import os
from unittest import mock

from absl.testing import absltest
import gin

from parl_tf.binaries import configs
from parl_tf.distributed import launch_check
from parl_tf.domains import domain

_METHOD = ['methods/parl_cal_ql.gin', 'policies/gaussian.gin']


class LaunchCheckTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  def test_a_robot_is_not_launched(self):
    # Without a driver, so that an attempt to make one would fail.
    configs.parse([*_METHOD, 'domains/robot.gin'])
    with self.assertRaisesRegex(ValueError, 'single environment.*fleet.md'):
      launch_check.check()

  def test_one_world_in_another_process_is_not_launched(self):
    files = [*_METHOD, 'domains/remote.gin']
    configs.parse(files, ['Remote.max_environments = 1'])
    with self.assertRaisesRegex(ValueError, 'single environment'):
      launch_check.check()
    for limit in (None, 8):
      gin.clear_config()
      configs.parse(files, [f'Remote.max_environments = {limit}'])
      launch_check.check()

  def test_a_process_that_was_launched_refuses_a_robot(self):
    with mock.patch.dict(os.environ, {domain.LAUNCHED: '1'}):
      with self.assertRaisesRegex(ValueError, 'single environment'):
        domain.select_domain(mock.Mock(max_environments=1))
      task = mock.Mock(max_environments=None)
      self.assertIs(domain.select_domain(task), task)

  def test_the_dataset_must_exist(self):
    path = os.path.join(self.create_tempdir().full_path, 'data.hdf5')
    binding = f"run_experiment.dataset_path = '{path}'"
    configs.parse(['quickstart.gin'], [binding])
    with self.assertRaisesRegex(FileNotFoundError, path):
      launch_check.check()
    with open(path, 'w'):
      launch_check.check()


if __name__ == '__main__':
  absltest.main()
