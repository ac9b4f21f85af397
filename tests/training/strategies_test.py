"""Tests of what devices are asked for by name; of two: `mirrored_test`."""

from absl.testing import absltest
import tensorflow as tf

from parl_tf.training import strategies


class StrategiesTest(absltest.TestCase):

  def test_default_is_one_device(self):
    strategy = strategies.make('default')

    self.assertIs(strategy, tf.distribute.get_strategy())
    self.assertEqual(strategy.num_replicas_in_sync, 1)

  def test_one_device_cannot_share(self):
    with self.assertRaisesRegex(ValueError, 'two devices.*CPU:0'):
      strategies.make('mirrored')

  def test_unknown_name_is_told(self):
    with self.assertRaisesRegex(ValueError, "mirrored.*'many'"):
      strategies.make('many')


if __name__ == '__main__':
  absltest.main()
