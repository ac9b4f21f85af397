"""Tests of confidence intervals of proportions."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf import proportion


class WilsonIntervalTest(parameterized.TestCase):

  @parameterized.named_parameters(
      # z^2 = 3.841459; 1 + z^2 / n = 1.384146.
      # center = (0.8 + 0.192073) / 1.384146 = 0.716740
      # half = 1.959964 / 1.384146 * sqrt(0.016 + 0.009604) = 0.226577
      ('eight_of_ten', 0.8, 10, 0.490163, 0.943317),
      # The upper limit is z^2 / (n + z^2): 3.841459 / 13.841459.
      ('none_of_ten', 0.0, 10, 0.0, 0.277533),
      # 3.841459 / 67.841459.
      ('none_of_64', 0.0, 64, 0.0, 0.056624),
      # The mirror image of none_of_64.
      ('all_of_64', 1.0, 64, 0.943376, 1.0),
  )
  def test_limits(self, rate, num_trials, low, high):
    np.testing.assert_allclose(
        proportion.wilson_interval(rate, num_trials), (low, high), atol=1e-6
    )

  @parameterized.parameters(
      (1.5, 2, 'rate'), (-0.5, 2, 'rate'), (0.0, 0, 'num_trials')
  )
  def test_number_out_of_range_is_named(self, rate, num_trials, name):
    with self.assertRaisesRegex(ValueError, f'`{name}`'):
      proportion.wilson_interval(rate, num_trials)


if __name__ == '__main__':
  absltest.main()
