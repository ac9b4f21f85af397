"""Tests of the histogram over a task's returns."""

from absl.testing import parameterized
import gin
import tensorflow as tf

from parl_tf.critics import histogram
from parl_tf.critics import iql
from tests import tensor_case
from tests.critics import critic_conformance


class HistogramTest(tensor_case.TensorCase):

  @parameterized.parameters(
      ({}, (-100.0, 0.0)),
      ({'min_value': -2.0}, (-2.0, 0.0)),
      ({'max_value': 5.0}, (-100.0, 5.0)),
      ({'min_value': -2.0, 'max_value': 5.0}, (-2.0, 5.0)),
  )
  def test_given_edges_replace_the_tasks_returns(self, given, expected):
    made = histogram.make_histogram((-100.0, 0.0), **given)
    self.assertEqual((made.min_value, made.max_value), expected)
    self.assertEqual(made.num_bins, 128)

  def test_given_edges_replace_an_unknown_range(self):
    made = histogram.make_histogram(None, min_value=-2.0, max_value=5.0)
    self.assertEqual((made.min_value, made.max_value), (-2.0, 5.0))

  @parameterized.parameters(
      ({}, 'None and None'),
      ({'min_value': -2.0}, '-2.0 and None'),
      ({'max_value': 5.0}, 'None and 5.0'),
  )
  def test_an_unknown_range_without_both_edges_is_an_error(self, given, seen):
    with self.assertRaisesRegex(
        ValueError,
        '`HLGauss.min_value` and `HLGauss.max_value` must be given.*got '
        f'{seen}. For.*`Critic.distribution_ctor = None`',
    ):
      histogram.make_histogram(None, **given)

  def test_a_critics_histogram_depends_on_its_gamma(self):
    self.addCleanup(gin.clear_config)
    gin.parse_config("""
      Critic.distribution_ctor = @HLGauss
      HLGauss.num_bins = 2
    """)
    critic = iql.IQLCritic(
        critic_conformance.SPEC._replace(
            value_range=lambda gamma: (-1.0 / (1.0 - gamma), 0.0)
        ),
        gamma=0.5,
    )
    # With two equally likely bins over [-2, 0], the mean is -1.
    values = critic.bind(critic_conformance.make_observation(1)).members(
        critic_conformance.make_actions(1, 1)
    )
    self.assertAllClose(values, tf.fill(values.shape, -1.0), atol=0.1)


if __name__ == '__main__':
  tf.test.main()
