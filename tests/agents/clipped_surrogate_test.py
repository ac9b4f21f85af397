"""Tests of the clipped surrogate loss; comments derive the golden numbers."""

import math

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow as tf

from parl_tf.agents import clipped_surrogate
from tests import tensor_case
from tests.agents import small_agent


class ClippedSurrogateTest(tensor_case.TensorCase):

  def test_earlier_steps_are_discounted_and_clipped_more(self):
    surrogate = clipped_surrogate.ClippedSurrogate(
        small_agent.make_policy(),
        denoising_gamma=0.5,
        clip_ratio=0.2,
        denoising_clip_decay=0.25,
    )
    observation = tf.zeros([3, 3])
    _, chain = surrogate.chain.sample(observation, tf.constant([1, 2]))
    # The chain has the steps t = 1 and t = 0. Acting at half the density makes
    # every ratio 2.
    t = tf.constant([0, 1, 0])
    steps = tf.nest.map_structure(
        lambda x: tf.gather(x, 1 - t, batch_dims=1), chain
    )
    steps = steps._replace(log_probs=steps.log_probs - math.log(2.0))

    loss = surrogate(observation, steps, t, tf.constant([1.0, 1.0, -1.0]))

    # t = 0, A = 1:  -min(2, 1 + 0.2) = -1.2
    # t = 1, A = 1:  -0.5 min(2, 1 + 0.2 * 0.25) = -0.525
    # t = 0, A = -1: -min(-2, -1.2) = 2
    self.assertAllClose(loss.per_example, [-1.2, -0.525, 2.0], rtol=1e-5)
    # The mean of 2 - 1 - log 2.
    self.assertAllClose(
        loss.metrics['policy/kl'], 1.0 - math.log(2.0), rtol=1e-4
    )
    self.assertAllClose(loss.metrics['policy/clipped'], 1.0)

  @parameterized.parameters(
      ('denoising_gamma', 1.5),
      ('clip_ratio', -0.1),
      ('denoising_clip_decay', float('nan')),
  )
  def test_value_out_of_range_is_named(self, name, value):
    with self.assertRaisesRegex(ValueError, f'`{name}` must be in .*{value}'):
      clipped_surrogate.ClippedSurrogate(
          small_agent.make_policy(), **{name: value}
      )


if __name__ == '__main__':
  absltest.main()
