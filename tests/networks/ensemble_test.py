"""Tests of the critic's network."""

import collections
import math

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.utils import common

from parl_tf.networks import ensemble

_SEED = tf.constant([3, 4], tf.int32)


def _make_ensemble(**kwargs):
  arguments = dict(
      feature_size=3, action_size=2, num_outputs=4, seed=0, num_members=3,
      hidden_sizes=(8, 6),
  )
  return ensemble.CriticEnsemble(**{**arguments, **kwargs})


def _randomize(layer):
  """Assigns standard normal values to all variables."""
  random = np.random.default_rng(0)
  for variable in layer.trainable_variables:
    variable.assign(random.normal(size=variable.shape))


def _by_name(layer):
  return {
      variable.name.split('/')[-1].split(':')[0]: variable
      for variable in layer.trainable_variables
  }


def _reference(weights, features, actions, num_members, layer_norm):
  """Evaluates each member separately; returns `[E, B, N, num_outputs]`."""
  x = features[:, tf.newaxis]  # [B, 1, F]
  if actions is not None:
    x = tf.repeat(x, actions.shape[1], axis=1)
    x = tf.concat([x, actions], axis=-1)
  outputs = []
  num_layers = sum(name.startswith('kernel_') for name in weights)
  for e in range(num_members):
    y = x
    for i in range(num_layers):
      y = _with_actions(y, actions, weights[f'kernel_{i}'])
      y = tf.einsum('bni,ij->bnj', y, weights[f'kernel_{i}'][e])
      y += weights[f'bias_{i}'][e]
      if layer_norm:
        mean = tf.reduce_mean(y, axis=-1, keepdims=True)
        variance = tf.reduce_mean((y - mean) ** 2, axis=-1, keepdims=True)
        y = (y - mean) / tf.sqrt(variance + 1e-6)
        y = y * weights[f'scale_{i}'][e] + weights[f'offset_{i}'][e]
        y *= tf.sigmoid(y)
      else:
        y = tf.maximum(y, 0.0)
    head = 0 if weights['head_kernel'].shape[0] == 1 else e
    y = _with_actions(y, actions, weights['head_kernel'])
    y = tf.einsum('bni,ij->bnj', y, weights['head_kernel'][head])
    outputs.append(y + weights['head_bias'][head])
  return tf.stack(outputs)


def _with_actions(y, actions, kernels):
  if kernels.shape[1] == y.shape[-1]:
    return y
  return tf.concat([y, actions], axis=-1)


class CriticEnsembleTest(parameterized.TestCase):

  def test_the_action_can_be_an_input_of_every_layer(self):
    weights = _by_name(_make_ensemble(action_in_every_layer=True))
    # Three features and two action dimensions; widths 8 and 6; four outputs.
    self.assertEqual(
        [weights[x].shape[1:] for x in ('kernel_0', 'kernel_1', 'head_kernel')],
        [[3 + 2, 8], [8 + 2, 6], [6 + 2, 4]],
    )

  @parameterized.parameters(-1, 0, 8.0)
  def test_a_width_that_is_not_a_positive_integer_raises(self, width):
    with self.assertRaisesRegex(ValueError, f'positive integer, got {width}'):
      _make_ensemble(hidden_sizes=(8, width))

  def test_missing_actions_are_an_error_with_actions_in_every_layer(self):
    context = _make_ensemble(action_in_every_layer=True).context(
        tf.zeros([2, 3])
    )
    with self.assertRaisesRegex(ValueError, '`actions` must be given'):
      context()

  @parameterized.named_parameters(
      ('one_hidden_layer', dict(hidden_sizes=(8,))),
      ('two_hidden_layers', dict()),
      ('three_hidden_layers', dict(hidden_sizes=(8, 5, 7))),
      ('shared_head', dict(shared_head=True)),
      ('without_layer_norm', dict(layer_norm=False)),
      ('one_member', dict(num_members=1)),
      ('one_member_shared_head', dict(num_members=1, shared_head=True)),
      ('of_the_state_alone', dict(action_size=0)),
      ('action_in_every_layer', dict(action_in_every_layer=True)),
      (
          'action_in_every_layer_shared_head',
          dict(action_in_every_layer=True, shared_head=True),
      ),
      (
          'state_in_every_layer_without_actions',
          dict(action_in_every_layer=True, action_size=0),
      ),
  )
  def test_equals_separate_networks_in_values_and_gradients(self, arguments):
    ensemble = _make_ensemble(**arguments)
    _randomize(ensemble)
    weights = _by_name(ensemble)
    features = tf.random.stateless_normal([4, 3], [0, 1])
    actions = None
    if arguments.get('action_size') != 0:
      actions = tf.random.stateless_uniform([4, 5, 2], [0, 2], -1.0, 1.0)
    num_members = ensemble.num_members
    layer_norm = arguments.get('layer_norm', True)
    inputs = [features] if actions is None else [features, actions]
    results = []
    for evaluate in (
        lambda: ensemble.context(features)(actions),
        lambda: _reference(
            weights, features, actions, num_members, layer_norm
        ),
    ):
      with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = evaluate()
        # Every output has a different weight.
        loss = tf.reduce_sum(outputs * tf.random.stateless_normal(
            outputs.shape, [0, 3]
        ))
      sources = [*inputs, *weights.values()]
      results.append((outputs, tape.gradient(loss, sources)))
    (outputs, gradients), (expected, expected_gradients) = results
    num_actions = 1 if actions is None else 5
    self.assertEqual(outputs.shape, (num_members, 4, num_actions, 4))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    for gradient, expected_gradient in zip(gradients, expected_gradients):
      scale = np.max(np.abs(expected_gradient))
      np.testing.assert_allclose(
          gradient, expected_gradient, rtol=1e-4, atol=1e-4 * max(scale, 1.0)
      )

  def test_graphs_with_unknown_sizes_give_the_same_outputs(self):
    ensemble = _make_ensemble()
    _randomize(ensemble)
    features = tf.random.stateless_normal([4, 3], [0, 1])
    actions = tf.random.stateless_uniform([4, 5, 2], [0, 2], -1.0, 1.0)
    evaluate = common.function(
        lambda features, actions: ensemble.context(features)(actions),
        input_signature=[
            tf.TensorSpec([None, 3]), tf.TensorSpec([None, None, 2])
        ],
    )
    outputs = evaluate(features, actions)
    np.testing.assert_allclose(
        outputs, ensemble.context(features)(actions), atol=1e-5
    )
    np.testing.assert_allclose(
        evaluate(features[:1], actions[:1, :2]), outputs[:, :1, :2], atol=1e-5
    )

  @parameterized.parameters(False, True)
  def test_a_selection_has_the_values_and_gradients_of_its_members(
      self, shared
  ):
    ensemble = _make_ensemble(shared_head=shared)
    _randomize(ensemble)
    features = tf.random.stateless_normal([4, 3], [0, 1])
    actions = tf.random.stateless_uniform([4, 5, 2], [0, 2], -1.0, 1.0)
    picked = [2, 0, 2]
    with tf.GradientTape(persistent=True) as tape:
      selected = ensemble.context(features, tf.one_hot(picked, 3))(actions)
      gathered = tf.gather(ensemble.context(features)(actions), picked)
      losses = [tf.reduce_sum(x**2) for x in (selected, gathered)]
    np.testing.assert_allclose(selected, gathered, rtol=1e-4, atol=1e-4)
    for variable in ensemble.trainable_variables:
      seen, expected = (tape.gradient(loss, variable) for loss in losses)
      seen = tf.convert_to_tensor(seen).numpy()
      expected = tf.convert_to_tensor(expected).numpy()
      np.testing.assert_allclose(
          seen, expected, rtol=1e-3, atol=1e-4 * np.max(np.abs(expected))
      )
      if variable.shape[0] == 3:
        np.testing.assert_array_equal(seen[1], 0)  # Not selected.

  def test_a_row_without_variance_has_finite_gradients(self):
    # All inputs are 0, so LayerNorm divides only by its epsilon.
    ensemble = _make_ensemble()
    features, actions = tf.zeros([2, 3]), tf.zeros([2, 1, 2])
    with tf.GradientTape() as tape:
      tape.watch(actions)
      loss = tf.reduce_sum(ensemble.context(features)(actions))
    for gradient in tape.gradient(
        loss, [actions, *ensemble.trainable_variables]
    ):
      self.assertTrue(np.all(np.isfinite(gradient)))

  def test_initial_weights_are_orthogonal_with_their_gains(self):
    ensemble = _make_ensemble(hidden_sizes=(8, 12, 6))
    gains = {
        'kernel_0': math.sqrt(2.0), 'kernel_1': math.sqrt(2.0),
        'kernel_2': 1e-2, 'head_kernel': 1e-2,
    }
    weights = _by_name(ensemble)
    for name, gain in gains.items():
      for member in weights[name].numpy().astype(np.float64):
        if member.shape[0] > member.shape[1]:
          member = member.T
        np.testing.assert_allclose(
            member @ member.T, gain**2 * np.eye(len(member)), atol=1e-5
        )
    for name, variable in weights.items():
      if name.startswith(('bias', 'offset', 'head_bias')):
        np.testing.assert_array_equal(variable, np.zeros(variable.shape))
      elif name.startswith('scale'):
        np.testing.assert_array_equal(variable, np.ones(variable.shape))

  def test_members_and_seeds_have_different_repeatable_weights(self):
    kernels = [
        _by_name(_make_ensemble(seed=seed))['kernel_0'].numpy()
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    members = [*kernels[0], *kernels[2]]
    self.assertLen({member.tobytes() for member in members}, 6)

  def test_outputs_of_all_members_start_at_the_initial_bias(self):
    bias = np.array([1.0, -2.0, 3.0, 0.5])
    for shared in (False, True):
      ensemble = _make_ensemble(initial_bias=bias, shared_head=shared)
      outputs = ensemble.context(tf.ones([2, 3]))(tf.zeros([2, 1, 2]))
      # The head's gain is 1e-2.
      np.testing.assert_allclose(
          outputs, np.broadcast_to(bias, [3, 2, 1, 4]), atol=0.05
      )

  def test_each_layer_has_one_variable_of_each_kind(self):
    # Two layers of kernel, bias, scale and offset; kernel and bias of the head.
    shapes = collections.Counter(
        tuple(v.shape) for v in _make_ensemble().trainable_variables
    )
    self.assertEqual(
        shapes,
        {
            (3, 5, 8): 1, (3, 1, 8): 3, (3, 8, 6): 1, (3, 1, 6): 3,
            (3, 6, 4): 1, (3, 1, 4): 1,
        },
    )
    plain = _make_ensemble(layer_norm=False, shared_head=True)
    self.assertLen(plain.trainable_variables, 6)
    self.assertEqual(_by_name(plain)['head_kernel'].shape, (1, 6, 4))

  @parameterized.parameters(
      (dict(num_members=0), '`num_members`.*0'),
      (dict(hidden_sizes=()), '`hidden_sizes`'),
  )
  def test_bad_arguments_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      _make_ensemble(**arguments)
