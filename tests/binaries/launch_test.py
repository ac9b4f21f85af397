"""Tests that one command runs all roles to their end."""

import csv
import os
import signal
import subprocess
import sys

from absl.testing import absltest

from tests.binaries import tiny

_SECONDS = 600.0  # For a machine that is busy with other things.


class LaunchTest(absltest.TestCase):

  def test_stopped_run_goes_on_to_scores_and_policies(self):
    root_dir = self.create_tempdir().full_path
    process = self._launch(root_dir)
    # The first line of progress: all roles are started, none has finished.
    for line in process.stderr:
      if 'launch.py' in line:
        break
    # Ray's own handler of it would leave the roles to die as they may.
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=_SECONDS)
    self.assertEqual(process.returncode, 130, told[-3000:])
    self.assertIn('the same command goes on', told)

    process = self._launch(root_dir)
    _, told = process.communicate(timeout=_SECONDS)
    self.assertEqual(process.returncode, 0, told[-3000:])
    self.assertNotIn('started anew', told)

    learned = tiny.read_metrics(os.path.join(root_dir, 'learner'))
    # A warm-up episode and two that are trained after.
    self.assertEqual(learned[-1]['episodes'], '3')
    path = os.path.join(root_dir, 'evaluator', 'metrics.csv')
    with open(path, encoding='utf-8') as file:
      scored = list(csv.DictReader(file))
    self.assertEqual(scored[-1]['train_step'], learned[-1]['train_step'])
    for name in ('service', 'learner', 'collector_0', 'evaluator'):
      self.assertNotEmpty(self._read(root_dir, name))
    self.assertTrue(
        os.path.isdir(
            os.path.join(root_dir, 'learner', 'policies', 'greedy_policy')
        )
    )

  def _launch(self, root_dir):
    bindings = (*tiny.BINDINGS, 'follow.min_seconds = 0.0')
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
