"""Tests of device strategies and of the rows of each replica.

`mirrored_test` tests training on two devices.
"""

import os
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.training import devices

_CONTEXT = tf.distribute.experimental.ValueContext


class StrategyTest(absltest.TestCase):

  def test_default_is_one_device(self):
    strategy = devices.make_strategy('default')

    self.assertIs(strategy, tf.distribute.get_strategy())
    self.assertEqual(strategy.num_replicas_in_sync, 1)

  def test_mirrored_needs_two_devices(self):
    with self.assertRaisesRegex(ValueError, 'two devices.*CPU:0'):
      devices.make_strategy('mirrored')

  def test_unknown_name_is_an_error(self):
    with self.assertRaisesRegex(ValueError, "mirrored.*'many'"):
      devices.make_strategy('many')

  def test_gpu_that_tensorflow_does_not_see_is_reported(self):
    driver = self.create_tempfile().full_path
    with mock.patch.dict(os.environ):
      os.environ.pop('CUDA_VISIBLE_DEVICES', None)
      with self.assertLogs(level='WARNING') as logs:
        devices.warn_of_unused_gpu(driver)
      with self.assertNoLogs(level='WARNING'):
        devices.warn_of_unused_gpu(driver + '.missing')
      os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
      with self.assertNoLogs(level='WARNING'):
        devices.warn_of_unused_gpu(driver)
    self.assertIn('does not see the GPU', logs.output[0])


class ReplicaShareTest(absltest.TestCase):

  def test_a_replica_has_its_rows_of_every_slice(self):
    # Two slices of four rows.
    rows = {'x': tf.range(8), 'y': tf.reshape(tf.range(16), [8, 2])}

    first, second = (
        devices.replica_share('critic', rows, 2, _CONTEXT(i, 2))
        for i in range(2)
    )

    np.testing.assert_array_equal(first['x'], [0, 1, 4, 5])
    np.testing.assert_array_equal(second['x'], [2, 3, 6, 7])
    np.testing.assert_array_equal(
        second['y'], [[4, 5], [6, 7], [12, 13], [14, 15]]
    )

  def test_one_replica_has_all_rows(self):
    rows = tf.range(6)

    share = devices.replica_share('cloning', rows, 1, _CONTEXT(0, 1))

    np.testing.assert_array_equal(share, rows)

  def test_rows_that_cannot_be_shared_evenly_are_refused(self):
    # Ten rows make two slices of five, which two devices cannot split evenly.
    with self.assertRaisesRegex(
        ValueError, '`critic`.*2 updates times 2 devices, got 10'
    ):
      devices.replica_share(
          'critic', tf.range(10), 2, _CONTEXT(0, 2)
      )


if __name__ == '__main__':
  absltest.main()
