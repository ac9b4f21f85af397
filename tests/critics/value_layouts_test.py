"""Tests of the value function and its layouts."""

import functools

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import value_distribution
from parl_tf.critics import cal_ql
from parl_tf.critics import critic
from parl_tf.critics import value_layouts
from parl_tf.networks import ensemble
from tests import tensor_case
from tests.critics import critic_conformance


class ValueFunctionTest(parameterized.TestCase):

  def _make(self, distribution=None, aggregate=tf.reduce_mean):
    """Returns two members: the sum of an action's elements, and twice that."""

    def context(actions):
      value = tf.reduce_sum(actions, axis=-1, keepdims=True)  # [B, N, 1]
      return tf.stack([value, 2.0 * value])

    return critic.ValueFunction(context, distribution, aggregate)

  @parameterized.parameters((tf.reduce_mean, 1.5), (tf.reduce_min, 1.0))
  def test_members_are_aggregated(self, aggregate, factor):
    # The members value the first action at 0.5 and 1: mean 0.75, minimum 0.5.
    actions = tf.constant([[[0.25, 0.25], [1.0, 1.0]]])
    value_fn = self._make(aggregate=aggregate)
    np.testing.assert_array_equal(
        value_fn.members(actions), [[[0.5, 2.0]], [[1.0, 4.0]]]
    )
    np.testing.assert_array_equal(
        value_fn(actions), [[0.5 * factor, 2.0 * factor]]
    )

  def test_the_value_of_a_histogram_is_its_expectation(self):
    # Equal logits over [-4, 0] have the expectation -2, whatever their level.
    histogram = value_distribution.HLGauss(-4.0, 0.0, 4)

    def context(actions):
      return tf.reduce_sum(actions, axis=-1)[tf.newaxis, ..., tf.newaxis] + (
          tf.zeros([4])
      )

    value_fn = critic.ValueFunction(context, histogram, tf.reduce_mean)
    actions = tf.constant([[[0.25, 0.25], [1.0, 1.0]]])
    self.assertEqual(value_fn.outputs(actions).shape, [1, 1, 2, 4])
    np.testing.assert_allclose(value_fn(actions), [[-2.0, -2.0]], rtol=1e-6)

  def test_actions_without_a_candidate_axis_are_an_error(self):
    with self.assertRaises(ValueError):
      self._make()(tf.zeros([4, 2]))


_LAYOUTS = {
    'histogram': dict(
        distribution_ctor=critic_conformance.histogram_ctor(-4.0, 2.0, 8)
    ),
    'minimum': dict(value_aggregation='min'),
    'relu, one head': dict(
        network_ctor=functools.partial(
            ensemble.CriticEnsemble,
            num_members=4,
            hidden_sizes=(8,),
            layer_norm=False,
            shared_head=True,
        )
    ),
    'action in every layer': dict(
        network_ctor=functools.partial(
            ensemble.CriticEnsemble,
            num_members=3,
            hidden_sizes=(8, 6),
            action_in_every_layer=True,
        )
    ),
    'one member': dict(
        network_ctor=functools.partial(
            ensemble.CriticEnsemble, num_members=1, hidden_sizes=(8, 8)
        )
    ),
}


class LayoutTest(tensor_case.TensorCase):
  """Tests that all layouts give the same values and gradients."""

  def _make(self, layout):
    critic = critic_conformance.make(cal_ql.CalQLCritic, **_LAYOUTS[layout])
    generator = np.random.default_rng(0)
    for variable in critic.trainable_variables:
      variable.assign_add(0.5 * generator.standard_normal(variable.shape))
    return critic.bind(critic_conformance.make_observation(5))

  @parameterized.parameters(*_LAYOUTS)
  def test_memberwise_layout_is_equal(self, layout):
    value_fn = self._make(layout)
    other = value_layouts.MemberwiseValueFunction(
        value_fn.context, *value_fn.static
    )
    self._assert_equal(value_fn, other)

  @parameterized.parameters(*_LAYOUTS)
  def test_layout_for_few_actions_is_equal(self, layout):
    value_fn = self._make(layout)
    self._assert_equal(value_fn, value_layouts.for_few_actions(value_fn))

  @parameterized.product(layout=list(_LAYOUTS), in_graph=[False, True])
  def test_half_precision_is_close(self, layout, in_graph):
    value_fn = self._make(layout)
    half = value_layouts.in_half_precision(value_fn)
    actions = critic_conformance.make_actions(5, 3)
    run = half.value_and_gradient
    if in_graph:
      run = tf.function(run, autograph=False)
    values, gradient = value_fn.value_and_gradient(actions)
    seen_values, seen_gradient = run(actions)
    self.assertAllClose(half(actions), seen_values, rtol=1e-5)
    self.assertNotAllEqual(seen_values, values)
    for seen, exact in ((seen_values, values), (seen_gradient, gradient)):
      error = np.abs(seen - exact) / np.abs(exact).max()
      self.assertLess(error.mean(), 0.02)
      self.assertLess(error.max(), 0.1)

  def test_a_subset_of_states_has_the_same_values(self):
    value_fn = self._make('histogram')
    actions = critic_conformance.make_actions(5, 3)
    part = critic.ValueFunction(
        value_fn.context.states(1, 3), *value_fn.static
    )
    self.assertAllClose(part(actions[1:4]), value_fn(actions)[1:4], atol=1e-5)

  def _assert_equal(self, value_fn, other):
    actions = critic_conformance.make_actions(5, 3)
    values, gradient = value_fn.value_and_gradient(actions)
    self.assertGreater(np.abs(gradient).max(), 0.01)
    self.assertAllClose(other(actions), values, rtol=1e-5, atol=1e-5)
    seen_values, seen_gradient = other.value_and_gradient(actions)
    self.assertAllClose(seen_values, values, rtol=1e-5, atol=1e-5)
    self.assertAllClose(seen_gradient, gradient, rtol=1e-4, atol=1e-5)
