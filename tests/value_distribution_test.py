"""Tests of HL-Gauss histograms."""

from absl.testing import parameterized
import hypothesis
from hypothesis import strategies
import numpy as np
from scipy import stats
import tensorflow as tf
from tf_agents.utils import common

from parl_tf import value_distribution

_MODES = parameterized.named_parameters(
    ('eagerly', lambda fn: fn), ('in_a_graph', common.function)
)


def _reference(values, edges, sigma):
  """Computes probabilities in float64; the tail of each bin gives its mass."""
  z = (edges - np.asarray(values, np.float64)[..., np.newaxis]) / sigma
  below = stats.norm.cdf(z[..., 1:]) - stats.norm.cdf(z[..., :-1])
  above = stats.norm.sf(z[..., :-1]) - stats.norm.sf(z[..., 1:])
  mass = np.where(z[..., :-1] > 0, above, below)
  return mass / np.sum(mass, axis=-1, keepdims=True)


class HLGaussTest(parameterized.TestCase):

  def test_edges_and_centers_by_hand(self):
    histogram = value_distribution.HLGauss(-4.0, 0.0, 4)
    np.testing.assert_array_equal(histogram.edges, [-4, -3, -2, -1, 0])
    np.testing.assert_array_equal(histogram.centers, [-3.5, -2.5, -1.5, -0.5])
    self.assertEqual(histogram.num_bins, 4)

  @_MODES
  def test_probabilities_by_hand(self, mode):
    # Edges -2, -1, 0 and sigma 0.75. At -1 the bins are mirror images. At -0.5
    # the edges lie at -2, -2/3 and 2/3 sigma; P(z) = (1 + erf(z / sqrt 2)) / 2
    # is 0.022750, 0.252493 and 0.747507 there. The masses are 0.229742 and
    # 0.495015, with sum 0.724757.
    histogram = value_distribution.HLGauss(-2.0, 0.0, 2)
    np.testing.assert_allclose(
        mode(histogram.probabilities)(tf.constant([-1.0, -0.5])),
        [[0.5, 0.5], [0.316992, 0.683008]],
        atol=1e-6,
    )

  @_MODES
  def test_released_sigma_is_wider_by_the_square_root_of_two(self, mode):
    # sigma = 1.060660: edges at -1.414214, -0.471405, 0.471405 sigma, where P
    # is 0.078650, 0.318676, 0.681324. The masses are 0.240026 and 0.362648,
    # with sum 0.602674.
    histogram = value_distribution.HLGauss(-2.0, 0.0, 2, released_sigma=True)
    np.testing.assert_allclose(
        mode(histogram.probabilities)(tf.constant(-0.5)),
        [0.398269, 0.601731],
        atol=1e-6,
    )

  def test_sigma_is_in_bin_widths(self):
    # Bins ten times as wide treat a value ten times as far away the same.
    narrow = value_distribution.HLGauss(-2.0, 0.0, 4, sigma_ratio=1.5)
    wide = value_distribution.HLGauss(-20.0, 0.0, 4, sigma_ratio=1.5)
    np.testing.assert_allclose(
        narrow.probabilities(-0.3), wide.probabilities(-3.0), atol=1e-6
    )

  @parameterized.parameters(0.1, 0.75, 5.0)
  def test_probabilities_follow_the_normal_distribution(self, sigma_ratio):
    edges = np.linspace(-100.0, 0.0, 129)
    sigma = sigma_ratio * (edges[1] - edges[0])
    # Up to 30 sigma outside, where differences of the CDF are all 0.
    values = np.concatenate([
        np.linspace(-100.0, 0.0, 41),
        -100.0 - np.array([1.0, 10.0, 30.0]) * sigma,
        np.array([1.0, 10.0, 30.0]) * sigma,
    ])
    histogram = value_distribution.HLGauss(-100.0, 0.0, 128, sigma_ratio)
    probabilities = histogram.probabilities(tf.constant(values, tf.float32))
    np.testing.assert_allclose(
        probabilities, _reference(values, edges, sigma), atol=2e-4
    )

  @_MODES
  def test_values_far_outside_fall_into_the_edge_bin(self, mode):
    histogram = value_distribution.HLGauss(-100.0, 0.0, 128)
    values = tf.constant([1e3, 1e6, 1e9, 1e20, -1e3, -1e6, -1e9, -1e20])
    expected = np.zeros([8, 128])
    expected[:4, -1] = expected[4:, 0] = 1.0
    np.testing.assert_allclose(
        mode(histogram.probabilities)(values), expected, atol=1e-6
    )
    loss = mode(histogram.cross_entropy)(tf.zeros([8, 128]), values)
    np.testing.assert_allclose(loss, np.full([8], np.log(128.0)), rtol=1e-5)

  def test_nan_values_give_nan_probabilities(self):
    histogram = value_distribution.HLGauss(-100.0, 0.0, 128)
    self.assertTrue(np.all(np.isnan(histogram.probabilities(np.nan))))

  @_MODES
  def test_mean_weights_centers(self, mode):
    # 0.25 * -1.5 + 0.75 * -0.5 = -0.75; equal logits give the middle, -1.
    histogram = value_distribution.HLGauss(-2.0, 0.0, 2)
    logits = tf.constant([[np.log(0.25), np.log(0.75)], [3.0, 3.0]], tf.float32)
    np.testing.assert_allclose(
        mode(histogram.mean)(logits), [-0.75, -1.0], atol=1e-6
    )

  def test_mean_and_its_gradient_have_no_matrix_product(self):
    # On a GPU it would be rounded to TF32.
    histogram = value_distribution.HLGauss(-2.0, 0.0, 2)

    @tf.function
    def mean_and_gradient(logits):
      with tf.GradientTape() as tape:
        tape.watch(logits)
        mean = histogram.mean(logits)
      return mean, tape.gradient(mean, logits)

    graph = mean_and_gradient.get_concrete_function(
        tf.TensorSpec([3, 2], tf.float32)
    ).graph
    kinds = {operation.type for operation in graph.get_operations()}
    self.assertIn('Softmax', kinds)
    self.assertNoCommonElements(kinds, {'MatMul', 'BatchMatMulV2', 'Einsum'})

  @_MODES
  def test_cross_entropy_broadcasts_values_over_leading_axes(self, mode):
    # The target of -1 is (0.5, 0.5). Its cross entropy with (0.25, 0.75) is
    # 0.5 * 1.386294 + 0.5 * 0.287682 = 0.836988, with (0.5, 0.5) log 2. The
    # target of -0.5 is (0.316992, 0.683008): 0.316992 * 1.386294 +
    # 0.683008 * 0.287682 = 0.635934, and log 2.
    histogram = value_distribution.HLGauss(-2.0, 0.0, 2)
    logits = tf.math.log(tf.constant([
        [[0.25, 0.75], [0.25, 0.75]],
        [[0.5, 0.5], [0.5, 0.5]],
    ]))  # [E, B, bins]
    loss = mode(histogram.cross_entropy)(logits, tf.constant([[-1.0, -0.5]]))
    np.testing.assert_allclose(
        loss, [[0.836988, 0.635934], [0.693147, 0.693147]], atol=1e-5
    )

  def test_gradient_of_cross_entropy_is_the_difference_of_probabilities(self):
    # softmax(0, 0) - (0.316992, 0.683008).
    histogram = value_distribution.HLGauss(-2.0, 0.0, 2)
    logits = tf.zeros([2])
    with tf.GradientTape() as tape:
      tape.watch(logits)
      loss = histogram.cross_entropy(logits, -0.5)
    np.testing.assert_allclose(
        tape.gradient(loss, logits), [0.183008, -0.183008], atol=1e-6
    )

  @hypothesis.settings(derandomize=True, deadline=None, max_examples=20)
  @hypothesis.given(strategies.floats(-95.0, -5.0, width=32))
  def test_mean_recovers_values_inside_the_edges(self, value):
    # Five units (six sigma) away from the edges, nothing is cut off.
    histogram = value_distribution.HLGauss(-100.0, 0.0, 128)
    probabilities = histogram.probabilities(value)
    self.assertAlmostEqual(float(np.sum(probabilities)), 1.0, places=4)
    np.testing.assert_allclose(
        histogram.mean(tf.math.log(probabilities + 1e-30)), value, atol=2e-2
    )

  @parameterized.parameters(
      (dict(min_value=0.0, max_value=0.0, num_bins=8), '`min_value`'),
      (dict(min_value=1.0, max_value=-1.0, num_bins=8), '`min_value`'),
      (dict(min_value=0.0, max_value=1.0, num_bins=1), '`num_bins`'),
      (
          dict(min_value=0.0, max_value=1.0, num_bins=8, sigma_ratio=0.0),
          '`sigma_ratio`',
      ),
  )
  def test_bad_arguments_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      value_distribution.HLGauss(**arguments)
