"""Tests of `parl-train --strategy mirrored`."""

import json
import os
import subprocess
import sys

from absl.testing import absltest
import pytest
import tensorflow as tf

from parl_tf.binaries import run_flags
from parl_tf.binaries import training_run
from parl_tf.training import devices
from tests.binaries import tiny

# A program, since TensorFlow sets its devices once per process.
_PROGRAM = """
import sys
import tensorflow as tf
from parl_tf.binaries import training_run
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
root_dir, gin_file, *bindings = sys.argv[1:]
training_run.train(root_dir, [gin_file], bindings, seed=3, strategy='mirrored')
"""


class StrategyTest(absltest.TestCase):

  def test_flag_has_the_names_of_the_strategies(self):
    self.assertEqual(run_flags.STRATEGIES, devices.STRATEGIES)

  def test_one_device_is_refused_before_any_work(self):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')

    with self.assertRaisesRegex(ValueError, 'two devices'):
      training_run.train(root_dir, [tiny.GIN_FILE], strategy='mirrored')

    self.assertFalse(os.path.exists(root_dir))


@pytest.mark.full
class RunTest(absltest.TestCase):
  """Compares a whole run on two devices with a run on one."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._root_dir = os.path.join(tiny.make_folder(), 'mirrored')
    subprocess.run(
        [
            sys.executable,
            '-c',
            _PROGRAM,
            cls._root_dir,
            tiny.GIN_FILE,
            *tiny.BINDINGS,
        ],
        check=True,
        cwd=tiny.ROOT,
    )

  def test_losses_equal_those_on_one_device(self):
    rows = tiny.read_metrics(self._root_dir)
    expected = tiny.read_metrics(tiny.finished_run())

    self.assertLen(rows, tiny.NUM_ROWS)
    for row, one in zip(rows, expected):
      # Online, an action that differs by rounding may lead to another state.
      if one['phase'] != 'online' and one['loss']:
        self.assertAlmostEqual(
            float(row['loss']), float(one['loss']), delta=1e-3
        )

  def test_policies_are_exported(self):
    with open(
        os.path.join(self._root_dir, 'summary.json'), encoding='utf-8'
    ) as file:
      summary = json.load(file)

    self.assertEqual(
        sorted(summary['policies']), ['base_policy', 'greedy_policy']
    )
    for path in summary['policies'].values():
      self.assertTrue(hasattr(tf.saved_model.load(path), 'action'))


if __name__ == '__main__':
  absltest.main()
