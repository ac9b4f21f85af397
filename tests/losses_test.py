"""Tests of losses and targets; comments derive the golden numbers."""

import math

from absl.testing import parameterized
import hypothesis
from hypothesis import strategies
import numpy as np
import tensorflow as tf
from tf_agents.utils import common

from parl_tf import losses

# Every function runs eagerly and in a graph.
_MODES = parameterized.named_parameters(
    ('eagerly', lambda fn: fn), ('in_a_graph', common.function)
)
_FEW = hypothesis.settings(derandomize=True, deadline=None, max_examples=20)
# Kernels flush subnormal float32 numbers to 0.
_FLOATS = strategies.floats(-100, 100, width=32, allow_subnormal=False)


def _logs(*numbers, temperature=1.0):
  """Returns `[1, 1, n]` values temperature * log(number)."""
  return tf.constant([[np.log(numbers) * temperature]], tf.float32)


def _log_densities(*numbers):
  """Returns `[1, n]` log densities."""
  return tf.constant([np.log(numbers)], tf.float32)


class TargetTest(parameterized.TestCase):

  @_MODES
  def test_backup_takes_the_minimum_over_members_first(self, mode):
    # State 0: min((1, 5), (3, 2)) = (1, 2), with maximum 2. State 1:
    # min((0, -2), (-1, 4)) = (-1, -2), with maximum -1. The other order would
    # give min(5, 3) = 3 and min(0, 4) = 0. Means: (2, 3.5) and (-0.5, 1).
    values = tf.constant(
        [[[1.0, 5.0], [0.0, -2.0]], [[3.0, 2.0], [-1.0, 4.0]]]
    )
    np.testing.assert_array_equal(
        mode(losses.backup_value)(values), [2.0, -1.0]
    )
    np.testing.assert_array_equal(
        mode(losses.backup_value)(values, tf.reduce_mean), [3.5, 1.0]
    )

  @_MODES
  def test_target_bootstraps_from_the_next_value(self, mode):
    # -1 + 0.5 * -2 = -2 and 0 + 0.5 * 10 = 5. A time-out also has discount 1.
    target = mode(losses.td_target)(
        tf.constant([-1.0, 0.0]),
        tf.constant([1.0, 1.0]),
        tf.constant([-2.0, 10.0]),
        0.5,
    )
    np.testing.assert_array_equal(target, [-2.0, 5.0])

  @_MODES
  def test_target_ignores_next_value_at_termination(self, mode):
    target = mode(losses.td_target)(
        tf.constant([-1.0, 3.0]),
        tf.constant([0.0, 0.0]),
        tf.constant([-2.0, 1e6]),
        0.5,
    )
    np.testing.assert_array_equal(target, [-1.0, 3.0])

  def test_target_has_no_gradient(self):
    next_value = tf.constant([1.0, 2.0])
    with tf.GradientTape() as tape:
      tape.watch(next_value)
      target = losses.td_target(next_value, next_value, next_value, 0.9)
    self.assertIsNone(tape.gradient(target, next_value))

  def test_target_with_wrong_shapes_is_an_error(self):
    row, column = tf.zeros([2]), tf.zeros([2, 1])
    with self.assertRaises(ValueError):
      losses.td_target(row, row, column, 0.9)
    with self.assertRaises(ValueError):
      losses.td_target(row, tf.zeros([3]), row, 0.9)
    with self.assertRaises(ValueError):
      losses.backup_value(column)


class OneStepDistillationTest(parameterized.TestCase):

  @_MODES
  def test_distance_by_hand(self, mode):
    loss = mode(losses.one_step_distillation)(
        tf.constant([[0.5, -1.0]]), tf.constant([[0.0, 1.0]])
    )
    np.testing.assert_allclose(loss, [2.125])  # (0.5^2 + (-2)^2) / 2


class ExpectileLossTest(parameterized.TestCase):

  @_MODES
  def test_expectile_loss_by_hand(self, mode):
    # 0.7 * 2^2 = 2.8, 0.3 * (-1)^2 = 0.3, 0, 0.7 * 0.5^2 = 0.175.
    loss = mode(losses.expectile_loss)(
        tf.constant([[2.0, -1.0], [0.0, 0.5]]), 0.7
    )
    np.testing.assert_allclose(loss, [[2.8, 0.3], [0.0, 0.175]], rtol=1e-6)

  def test_gradient_weight_depends_on_the_sign(self):
    # d/du of w u^2 = 2 w u: 2 * 0.9 * 2 = 3.6, 2 * 0.1 * -3 = -0.6.
    difference = tf.constant([2.0, -3.0])
    with tf.GradientTape() as tape:
      tape.watch(difference)
      loss = losses.expectile_loss(difference, 0.9)
    np.testing.assert_allclose(
        tape.gradient(loss, difference), [3.6, -0.6], rtol=1e-6
    )

  @_FEW
  @hypothesis.given(strategies.lists(_FLOATS, min_size=1, max_size=5))
  def test_expectile_one_half_is_half_the_squared_error(self, differences):
    differences = np.array(differences, np.float32)
    np.testing.assert_allclose(
        losses.expectile_loss(tf.constant(differences), 0.5),
        0.5 * differences**2,
        rtol=1e-6,
    )

  @parameterized.parameters(0.0, 1.0, -0.1, 1.1)
  def test_expectile_out_of_range_is_an_error(self, expectile):
    with self.assertRaisesRegex(ValueError, f'`expectile`.*{expectile}'):
      losses.expectile_loss(tf.zeros([1]), expectile)


class SoftPolicyLossTest(parameterized.TestCase):

  @_MODES
  def test_loss_and_gradients_by_hand(self, mode):
    # alpha = exp(log 2) = 2, target entropy -1. The first row has
    # 2 * 0.5 - 3 - log 2 * (0.5 - 1) = -2 + 0.5 log 2, the second
    # 2 * -1.5 - (-1) - log 2 * (-1.5 - 1) = -2 + 2.5 log 2.
    value = tf.constant([3.0, -1.0])
    log_prob = tf.constant([0.5, -1.5])
    log_temperature = tf.constant(math.log(2.0))
    with tf.GradientTape() as tape:
      inputs = (value, log_prob, log_temperature)
      tape.watch(inputs)
      loss = mode(losses.soft_policy_loss)(*inputs, -1.0)
    log_2 = math.log(2.0)
    np.testing.assert_allclose(
        loss, [-2.0 + 0.5 * log_2, -2.0 + 2.5 * log_2], rtol=1e-6
    )
    by_value, by_log_prob, by_temperature = tape.gradient(loss, inputs)
    np.testing.assert_allclose(by_value, [-1.0, -1.0])
    np.testing.assert_allclose(by_log_prob, [2.0, 2.0], rtol=1e-6)
    # -(0.5 - 1) - (-1.5 - 1) = 3: the mean entropy 0.5 exceeds the target -1,
    # so a step down lowers the temperature.
    np.testing.assert_allclose(by_temperature, 3.0, rtol=1e-6)


class CalibratedValuesTest(parameterized.TestCase):

  @_MODES
  def test_values_below_the_return_become_the_return(self, mode):
    # The returns are -2 at state 0 and 3 at state 1.
    values = tf.constant([
        [[-3.0, -1.0], [2.0, 5.0]],
        [[0.0, -4.0], [1.0, -6.0]],
    ])
    calibrated = mode(losses.calibrated_values)(
        values, tf.constant([-2.0, 3.0])
    )
    np.testing.assert_array_equal(
        calibrated,
        [[[-2.0, -1.0], [3.0, 5.0]], [[0.0, -2.0], [3.0, 3.0]]],
    )

  def test_gradient_flows_only_through_values_above_the_return(self):
    values = tf.constant([[[-3.0, -1.0]]])
    with tf.GradientTape() as tape:
      tape.watch(values)
      calibrated = losses.calibrated_values(values, tf.constant([-2.0]))
    np.testing.assert_array_equal(
        tape.gradient(calibrated, values), [[[0.0, 1.0]]]
    )

  @_FEW
  @hypothesis.given(
      strategies.lists(_FLOATS, min_size=6, max_size=6),
      strategies.lists(_FLOATS, min_size=3, max_size=3),
  )
  def test_calibrated_value_is_never_below_the_return(self, values, returns):
    values = np.reshape(np.array(values, np.float32), [1, 3, 2])
    returns = np.array(returns, np.float32)
    calibrated = losses.calibrated_values(
        tf.constant(values), tf.constant(returns)
    ).numpy()
    self.assertTrue(np.all(calibrated >= returns[np.newaxis, :, np.newaxis]))
    self.assertTrue(np.all(calibrated >= values))

  def test_return_with_another_batch_size_is_an_error(self):
    with self.assertRaises(ValueError):
      losses.calibrated_values(tf.zeros([2, 3, 1]), tf.zeros([2]))


class ConservativePenaltyTest(parameterized.TestCase):

  @_MODES
  def test_all_blocks_and_the_data_are_columns(self, mode):
    # exp(values) are 1, 2 | 3, 4 | 5, 6 | 7, with sum 28. With 7 columns the
    # penalty is log 28 - log 7 - log 7 = log(4 / 7) = -0.559616.
    penalty = mode(losses.conservative_penalty)(
        _logs(1, 2), _logs(3, 4), _logs(5, 6), _logs(7)[..., 0]
    )
    np.testing.assert_allclose(penalty, [[-0.559616]], rtol=1e-5)

  @_MODES
  def test_temperature_scales_values_and_shift(self, mode):
    # The values are twice those above, and so is the penalty: 2 log(4 / 7).
    def logs(*numbers):
      return _logs(*numbers, temperature=2.0)

    penalty = mode(losses.conservative_penalty)(
        logs(1, 2), logs(3, 4), logs(5, 6), logs(7)[..., 0], 2.0
    )
    np.testing.assert_allclose(penalty, [[-1.119232]], rtol=1e-5)

  @_MODES
  def test_one_policy_column_weighs_as_much_as_the_uniform_block(self, mode):
    # 1 + 2 + 2 * 3 + 2 * 5 + 7 = 26 in 7 columns: log(26 / 7 / 7) = -0.633724.
    penalty_fn = mode(losses.conservative_penalty)
    data = _logs(7)[..., 0]
    penalty = penalty_fn(_logs(1, 2), _logs(3), _logs(5), data)
    np.testing.assert_allclose(penalty, [[-0.633724]], rtol=1e-5)
    np.testing.assert_allclose(
        penalty,
        penalty_fn(_logs(1, 2), _logs(3, 3), _logs(5, 5), data),
        rtol=1e-5,
    )

  @parameterized.parameters(1, 2, 3, 6)
  def test_weighted_columns_equal_copies(self, num_columns):
    random = np.random.default_rng(num_columns)

    def values(n):
      return random.normal(size=[2, 3, n]).astype(np.float32)

    def copies(x):
      return np.repeat(x, 6 // num_columns, axis=-1)

    uniform, data = values(6), values(1)[..., 0]
    next_, current = values(num_columns), values(num_columns)
    for temperature in (0.5, 1.0):
      np.testing.assert_allclose(
          losses.conservative_penalty(
              uniform, next_, current, data, temperature
          ),
          losses.conservative_penalty(
              uniform, copies(next_), copies(current), data, temperature
          ),
          atol=1e-5,
      )

  @_MODES
  def test_an_absent_block_is_not_counted(self, mode):
    # 1 + 2 + 5 + 6 + 7 = 21 in 5 columns: log(21 / 5 / 7) = -0.510826.
    penalty_fn = mode(losses.conservative_penalty)
    data = _logs(7)[..., 0]
    for absent in (None, tf.zeros([1, 1, 0])):
      np.testing.assert_allclose(
          penalty_fn(_logs(1, 2), absent, _logs(5, 6), data),
          [[-0.510826]],
          rtol=1e-5,
      )
      np.testing.assert_allclose(
          penalty_fn(_logs(1, 2), _logs(5, 6), absent, data),
          [[-0.510826]],
          rtol=1e-5,
      )

  @_MODES
  def test_both_blocks_may_be_absent(self, mode):
    # 1 + 2 + 7 = 10 in 3 columns: log(10 / 3 / 7) = -0.741937.
    penalty = mode(losses.conservative_penalty)(
        _logs(1, 2), None, tf.zeros([1, 1, 0]), _logs(7)[..., 0]
    )
    np.testing.assert_allclose(penalty, [[-0.741937]], rtol=1e-5)

  @_MODES
  def test_densities_weight_columns_and_drop_data_and_shift(self, mode):
    # value / density: 1 / 0.5 = 2, 2 / 0.5 = 4 | 3 / 1 = 3, 4 / 2 = 2 |
    # 5 * 3 = 15, 6 / 3 = 2; the sum is 28: log 28 - log 7 = log 4.
    penalty = mode(losses.conservative_penalty)(
        _logs(1, 2), _logs(3, 4), _logs(5, 6), _logs(7)[..., 0], 1.0,
        (
            _log_densities(0.5, 0.5),
            _log_densities(1, 2),
            _log_densities(1 / 3, 3),
        ),
    )
    np.testing.assert_allclose(penalty, [[1.386294]], rtol=1e-5)

  @_MODES
  def test_log_densities_are_subtracted_at_any_temperature(self, mode):
    # z = 2 log k - log d, so that exp(z / 2) = k / sqrt(d): 1 * 2, 2 * 2 |
    # 3 / 1, 4 / 2 | 5 * 3, 6 / 3; the sum is 28 again: 2 log 28 - 2 log 7.
    def logs(*numbers):
      return _logs(*numbers, temperature=2.0)

    penalty = mode(losses.conservative_penalty)(
        logs(1, 2), logs(3, 4), logs(5, 6), logs(7)[..., 0], 2.0,
        (
            _log_densities(1 / 4, 1 / 4),
            _log_densities(1, 4),
            _log_densities(1 / 9, 9),
        ),
    )
    np.testing.assert_allclose(penalty, [[2.772589]], rtol=1e-5)

  @_MODES
  def test_fewer_policy_columns_with_densities_weigh_as_much(self, mode):
    # 2 + 4 + 2 * 3 + 2 * 15 = 42: log 42 - log 7 = log 6. Without the block
    # for s, 2 + 4 + 2 * 3 = 12: log(12 / 7).
    penalty_fn = mode(losses.conservative_penalty)
    densities = (
        _log_densities(0.5, 0.5), _log_densities(1), _log_densities(1 / 3)
    )
    data = _logs(7)[..., 0]
    np.testing.assert_allclose(
        penalty_fn(_logs(1, 2), _logs(3), _logs(5), data, 1.0, densities),
        [[1.791759]],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        penalty_fn(
            _logs(1, 2), _logs(3), None, data, 1.0, (*densities[:2], None)
        ),
        [[0.538997]],
        rtol=1e-5,
    )

  def test_gradient_flows_through_both_uses_of_the_data(self):
    # Each column gets its share of 28; the data gets 7 / 28 as a column, and
    # -1 from the subtraction.
    arguments = [_logs(1, 2), _logs(3, 4), _logs(5, 6), _logs(7)[..., 0]]
    with tf.GradientTape() as tape:
      tape.watch(arguments)
      penalty = losses.conservative_penalty(*arguments)
    gradients = tape.gradient(penalty, arguments)
    shares = [[1, 2], [3, 4], [5, 6]]
    for gradient, share in zip(gradients[:3], shares):
      np.testing.assert_allclose(gradient[0, 0] * 28, share, rtol=1e-4)
    np.testing.assert_allclose(gradients[3], [[-0.75]], rtol=1e-5)

  def test_gradient_flows_through_the_calibrated_maximum(self):
    # Calibration at log 4 makes the columns 1, 2 | 4, 4.5 | 5, 6 | 7, with sum
    # 29.5. Only the column 4.5 still depends on the values.
    values = _logs(3, 4.5)
    with tf.GradientTape() as tape:
      tape.watch(values)
      calibrated = losses.calibrated_values(
          values, tf.constant([math.log(4.0)])
      )
      penalty = losses.conservative_penalty(
          _logs(1, 2), calibrated, _logs(5, 6), _logs(7)[..., 0]
      )
    np.testing.assert_allclose(
        tape.gradient(penalty, values), [[[0.0, 4.5 / 29.5]]], rtol=1e-5
    )

  @_FEW
  @hypothesis.given(
      strategies.integers(0, 1000), _FLOATS, strategies.permutations(range(4))
  )
  def test_adding_a_constant_or_reordering_columns_changes_nothing(
      self, seed, constant, order
  ):
    random = np.random.default_rng(seed)
    blocks = [
        random.normal(size=[2, 3, 4]).astype(np.float32) for _ in range(3)
    ]
    data = random.normal(size=[2, 3]).astype(np.float32)
    np.testing.assert_allclose(
        losses.conservative_penalty(
            *[x[..., list(order)] + constant for x in blocks], data + constant
        ),
        losses.conservative_penalty(*blocks, data),
        atol=1e-4,
    )

  def test_columns_need_not_divide_the_uniform_columns(self):
    # 1 + 2 + 3 + 3 / 2 * (4 + 6) + 7 = 28 in 3 + 3 + 1 columns: log 4 - log 7.
    blocks = _logs(1, 2, 3), _logs(4, 6), None, _logs(7)[..., 0]
    penalty = losses.conservative_penalty(*blocks)
    np.testing.assert_allclose(penalty, [[np.log(4 / 7)]], rtol=1e-5)

  def test_values_with_wrong_shapes_are_an_error(self):
    with self.assertRaises(ValueError):
      losses.conservative_penalty(
          tf.zeros([2, 3, 4]), None, None, tf.zeros([3, 2])
      )
