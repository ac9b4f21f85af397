"""Tests of the lock of an arm, against another process."""

import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
import gin
import numpy as np

from examples.robot import simulated_arm
from parl_tf.domains import arm_lock
from parl_tf.training import evaluation
from tests.domains import robot_gin

_HOLD = """
import sys
from parl_tf.domains import arm_lock
arm_lock.hold(sys.argv[1])
print('held', flush=True)
sys.stdin.read()
"""


class ArmLockTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._name = f'test_{os.getpid()}_{self._testMethodName}'
    self.addCleanup(gin.clear_config)
    self.addCleanup(self._remove_files)

  def _remove_files(self):
    for name in (self._name, f'{self._name}_other', f'/dev/{self._name}'):
      path = arm_lock.path_of(name)
      if (file := arm_lock._HELD.pop(path, None)) is not None:
        file.close()
      if os.path.exists(path):
        os.remove(path)

  def _start_holder(self):
    """Starts a process that holds the lock until it is killed."""
    process = subprocess.Popen(
        [sys.executable, '-c', _HOLD, self._name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    self.assertEqual(process.stdout.readline(), 'held\n')
    return process

  def test_an_arm_that_another_process_moves_stays_where_it_is(self):
    holder = self._start_holder()
    arm = simulated_arm.SimulatedArm(latency=0.0, drop_rate=0.0)
    domain = robot_gin.make_domain(lambda: arm, lock_name=self._name)
    with (
        mock.patch.object(arm, 'home') as home,
        mock.patch.object(arm, 'stop') as stop,
        self.assertRaisesRegex(ValueError, f'in use by process {holder.pid}:'),
    ):
      evaluation.Evaluator(domain, num_episodes=1, seed=0).run(
          lambda *_: np.zeros([1, 2], np.float32)
      )
    home.assert_not_called()
    stop.assert_not_called()  # It would stop the other program's motion.

  def test_another_arm_is_free(self):
    self._start_holder()
    arm_lock.hold(f'{self._name}_other')

  def test_a_name_may_be_a_path(self):
    arm_lock.hold(f'/dev/{self._name}')

  def test_a_forked_process_does_not_have_the_arm(self):
    arm_lock.hold(self._name)
    child = os.fork()
    if not child:
      try:
        arm_lock.hold(self._name)
      except ValueError:
        os._exit(3)
      os._exit(0)
    _, status = os.waitpid(child, 0)
    self.assertEqual(os.waitstatus_to_exitcode(status), 3)

  def test_a_killed_process_releases_the_arm(self):
    holder = self._start_holder()
    holder.kill()
    holder.wait()
    arm_lock.hold(self._name)
    arm_lock.hold(self._name)  # The same process may have it twice.

  def test_a_lock_whose_file_was_removed_is_taken_again(self):
    arm_lock.hold(self._name)
    os.remove(arm_lock.path_of(self._name))
    holder = self._start_holder()
    arm = simulated_arm.SimulatedArm(latency=0.0, drop_rate=0.0)
    domain = robot_gin.make_domain(lambda: arm, lock_name=self._name)
    environment = domain.make_environment(seed=0, evaluation=True)
    with (
        mock.patch.object(arm, 'stop') as stop,
        self.assertRaisesRegex(ValueError, f'process {holder.pid}:'),
    ):
      environment.reset()
    environment.close()
    stop.assert_not_called()  # It would stop the other program's motion.
    holder.kill()
    holder.wait()
    arm_lock.hold(self._name)
    self.assertTrue(os.path.exists(arm_lock.path_of(self._name)))

  def test_programs_with_and_without_a_login_session_share_the_lock(self):
    with mock.patch.object(os, 'access', return_value=True):
      path = arm_lock.path_of(self._name)
    with mock.patch.object(os, 'access', return_value=False):
      self.assertEqual(arm_lock.path_of(self._name), path)

  def test_a_link_in_place_of_the_lock_is_refused(self):
    target = self.create_tempfile('target', 'text').full_path
    os.symlink(target, arm_lock.path_of(self._name))
    self.addCleanup(os.remove, arm_lock.path_of(self._name))
    with self.assertRaisesRegex(ValueError, 'must be a file of this user'):
      arm_lock.hold(self._name)
    with open(target) as file:
      self.assertEqual(file.read(), 'text')

  def test_other_users_cannot_open_the_lock(self):
    arm_lock.hold(self._name)
    self.assertEqual(os.stat(arm_lock.path_of(self._name)).st_mode & 0o77, 0)


if __name__ == '__main__':
  absltest.main()
