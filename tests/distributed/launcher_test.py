"""Tests that one command runs all roles until they finish."""

import csv
import os
import signal
import subprocess
import sys
import types

from absl.testing import absltest
import pytest

from parl_tf.distributed import launcher
from tests.binaries import tiny

_SECONDS = 600.0  # With room for a busy machine.


class RolesTest(absltest.TestCase):

  def _roles(self, **changes):
    options = dict(
        root_dir='run', seed=0, gin_file=['quickstart.gin'], gin_bindings=[],
        ray_address=None, strategy='default', num_collectors=1,
        num_evaluation_episodes=1, collector_cpus=0.0, collector_gpus=0.0,
        learner_gpus=0.0,
    )
    options = types.SimpleNamespace(**{**options, **changes})
    roles = launcher.make_roles(options, 'localhost:1')
    return {role.name: role for role in roles}

  def _see_gpus(self, **changes):
    return [
        name
        for name, role in self._roles(**changes).items()
        if role.environment.get('CUDA_VISIBLE_DEVICES') != '-1'
    ]

  def test_gpus_are_for_the_learner_and_collectors_that_reserve_some(self):
    self.assertEqual(self._see_gpus(), ['learner'])
    self.assertEqual(
        self._see_gpus(collector_gpus=0.5), ['learner', 'collector_0']
    )

  def test_user_files_are_found_from_any_directory(self):
    mine = self.create_tempfile('mine.gin').full_path
    relative = os.path.relpath(mine)
    for role in self._roles(gin_file=['quickstart.gin', relative]).values():
      self.assertContainsSubset(
          ['--gin_file=quickstart.gin', f'--gin_file={mine}'], role.command
      )

  def test_episodes_of_more_collectors_before_are_warned_of(self):
    root_dir = self.create_tempdir().full_path
    for number in range(3):
      os.makedirs(os.path.join(root_dir, 'spool', str(number)))
    with self.assertLogs(level='WARNING') as logs:
      launcher.warn_of_spools(root_dir, 1)
    self.assertIn('more collectors than 1: [1, 2]', logs.output[0])
    with self.assertNoLogs(level='WARNING'):
      launcher.warn_of_spools(root_dir, 3)

  def test_service_port_is_outside_the_ephemeral_range(self):
    with open('/proc/sys/net/ipv4/ip_local_port_range') as file:
      low, high = map(int, file.read().split())
    self.assertNotIn(launcher.free_port(), range(low, high + 1))


class LaunchTest(absltest.TestCase):

  def test_all_roles_run_until_the_learner_finishes(self):
    root_dir = self.create_tempdir().full_path
    self._finish(root_dir)
    for name in ('service', 'learner', 'collector_0', 'evaluator'):
      self.assertNotEmpty(self._read(root_dir, name))
    self.assertEqual(
        os.listdir(os.path.join(root_dir, 'learner', 'policies')),
        ['greedy_policy'],
    )

  # Restarts of each role are tested by tests/binaries/distributed_test.py.
  @pytest.mark.full
  def test_a_stopped_run_resumes_and_finishes(self):
    root_dir = self.create_tempdir().full_path
    process = self._launch(root_dir)
    # At the first line of progress, all roles have started and none has ended.
    for line in process.stderr:
      if 'launcher.py' in line:
        break
    # Ray's own handler would not stop the roles in order.
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=_SECONDS)
    self.assertEqual(process.returncode, 130, output[-3000:])
    self.assertIn('the same command resumes', output)
    self._finish(root_dir)

  def _finish(self, root_dir):
    """Runs the command to its end, and checks what it trained and scored."""
    process = self._launch(root_dir)
    printed, output = process.communicate(timeout=_SECONDS)
    self.assertEqual(process.returncode, 0, output[-3000:])
    self.assertIn(f'SavedModel: {root_dir}/learner/policies/', printed)
    self.assertNotIn('restarting it', output)
    learned = tiny.read_metrics(os.path.join(root_dir, 'learner'))
    # A warm-up episode and two episodes with training.
    self.assertEqual(learned[-1]['episodes'], '3')
    path = os.path.join(root_dir, 'evaluator', 'metrics.csv')
    with open(path, encoding='utf-8') as file:
      scored = list(csv.DictReader(file))
    self.assertEqual(scored[-1]['train_step'], learned[-1]['train_step'])

  def _launch(self, root_dir):
    bindings = (
        *tiny.BINDINGS, *tiny.CHEAP_PARTS, 'follow.min_seconds = 0.0'
    )
    process = subprocess.Popen(
        [
            sys.executable,
            '-m',
            'parl_tf.binaries.launch',
            f'--root_dir={root_dir}',
            f'--gin_file={tiny.GIN_FILE}',
            *(f'--gin_bindings={x}' for x in bindings),
            '--num_collectors=1',
            '--num_evaluation_episodes=2',
        ],
        env={**os.environ, 'PYTHONPATH': str(tiny.ROOT)},
        cwd=tiny.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    self.addCleanup(process.kill)
    return process

  def _read(self, root_dir, name):
    path = os.path.join(root_dir, 'logs', f'{name}.log')
    with open(path, encoding='utf-8') as file:
      return file.read()


if __name__ == '__main__':
  absltest.main()
