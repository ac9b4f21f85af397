"""Tests of the layers that several policies share."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.networks import blocks

_SEED = tf.constant([3, 4], tf.int32)


class StatelessDropoutTest(parameterized.TestCase):

  def test_without_a_seed_nothing_is_dropped(self):
    x = tf.random.stateless_normal([4, 3], [0, 1])
    np.testing.assert_array_equal(blocks.StatelessDropout(0.5)(x), x)

  def test_the_mask_is_a_function_of_the_seed(self):
    layer, x = blocks.StatelessDropout(0.5), tf.ones([20, 10])
    first = layer(x, seed=_SEED)
    np.testing.assert_array_equal(layer(x, seed=_SEED), first)
    self.assertFalse(np.array_equal(layer(x, seed=_SEED + 1), first))

  def test_kept_values_are_scaled_up(self):
    y = blocks.StatelessDropout(0.25)(tf.ones([100, 100]), seed=_SEED).numpy()
    self.assertEqual(
        set(np.unique(y)), {np.float32(0), np.float32(1) / np.float32(0.75)}
    )
    # Standard error of the share: sqrt(0.25 * 0.75 / 10,000) = 0.004.
    self.assertAlmostEqual(np.mean(y == 0), 0.25, delta=0.02)

  @parameterized.parameters(-0.1, 1.0)
  def test_a_rate_out_of_range_is_an_error(self, rate):
    with self.assertRaisesRegex(ValueError, f'`rate`.*{rate}'):
      blocks.StatelessDropout(rate)


class FourierFeaturesTest(parameterized.TestCase):

  def test_cosines_then_sines_of_full_turns(self):
    layer = blocks.FourierFeatures(4, seed=0)
    (frequency,) = layer.trainable_variables
    frequency.assign([0.25, 1.0])
    # t = 1 gives a quarter turn and a full one; t = 2 half a turn and two.
    np.testing.assert_allclose(
        layer(tf.constant([1.0, 2.0])),
        [[0.0, 1.0, 1.0, 0.0], [-1.0, 1.0, 0.0, 0.0]],
        atol=1e-6,
    )

  def test_frequencies_have_standard_deviation_one_fifth(self):
    layer = blocks.FourierFeatures(4000, seed=0)
    # With 2,000 draws the standard error is 0.2 / sqrt(4,000) = 0.003.
    self.assertAlmostEqual(
        np.std(layer.trainable_variables[0]), 0.2, delta=0.015
    )

  def test_an_odd_size_is_an_error(self):
    with self.assertRaisesRegex(ValueError, '`size`.*3'):
      blocks.FourierFeatures(3, seed=0)


class MakeDenseTest(parameterized.TestCase):

  def test_a_dense_layer_needs_a_width(self):
    with self.assertRaisesRegex(ValueError, 'positive integer, got -4'):
      blocks.make_dense(-4, 3, 0)

  def test_the_weights_are_a_function_of_the_seed(self):
    kernel = blocks.make_dense(3, 4, seed=1).kernel.numpy()
    self.assertEqual(kernel.shape, (4, 3))
    np.testing.assert_array_equal(
        blocks.make_dense(3, 4, seed=1).kernel, kernel
    )
    self.assertFalse(
        np.array_equal(blocks.make_dense(3, 4, seed=2).kernel, kernel)
    )


if __name__ == '__main__':
  tf.test.main()
