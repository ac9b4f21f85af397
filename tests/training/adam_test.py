"""Tests that the fused Adam updates like Keras' own."""

import types

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.training import adam
from parl_tf.training import schedules


def _rate(is_schedule):
  return schedules.WarmUpCosineDecay(0.1, 2, 9) if is_schedule else 0.1


def _train(optimizer, gradient_of, num_steps=6):
  """Returns the weights after each step."""
  random = np.random.default_rng(0)
  weights = [
      tf.Variable(random.normal(size=shape).astype(np.float32))
      for shape in ([5, 3], [3], [])
  ]

  @tf.function(autograph=False)
  def step():
    with tf.GradientTape() as tape:
      loss = gradient_of(*weights)
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))

  optimizer.build(weights)
  history = []
  for _ in range(num_steps):
    step()
    history.append([w.numpy() for w in weights])
  return history, step.get_concrete_function().graph


def _dense(matrix, vector, scalar):
  return tf.reduce_sum(tf.square(matrix) * vector) + tf.square(scalar - 2.0)


def _sparse(matrix, vector, scalar):
  rows = tf.gather(matrix, [0, 2, 2])
  return tf.reduce_sum(tf.square(rows) * vector) + tf.square(scalar - 2.0)


class AdamTest(parameterized.TestCase):

  @parameterized.parameters(
      (_dense, False),
      (_dense, True),
      (_sparse, True),
      (_dense, False, dict(amsgrad=True)),
      (_dense, True, dict(global_clipnorm=0.5, weight_decay=0.1)),
      (_dense, False, dict(beta_1=0.5, beta_2=0.9, epsilon=1e-3)),
  )
  def test_weights_equal_those_of_keras(
      self, gradient_of, is_schedule, options=types.MappingProxyType({})
  ):
    ours, _ = _train(adam.Adam(_rate(is_schedule), **options), gradient_of)
    theirs, _ = _train(
        tf.keras.optimizers.Adam(_rate(is_schedule), **options), gradient_of
    )
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5),
        ours,
        theirs,
    )

  @parameterized.parameters((-1e-3,), ('1e-3',), (float('nan'),))
  def test_a_rate_that_is_negative_or_text_raises(self, rate):
    with self.assertRaisesRegex(
        ValueError, rf'`Adam.learning_rate` must be .* got {rate!r}'
    ):
      adam.Adam(rate)

  def test_dense_variables_have_one_update_each(self):
    _, graph = _train(adam.Adam(0.1), _dense, 1)
    kinds = [operation.type for operation in graph.get_operations()]
    self.assertEqual(kinds.count('ResourceApplyAdam'), 3)
    self.assertEqual(kinds.count('Pow'), 2)
    self.assertNotIn('AssignSubVariableOp', kinds)

  def test_several_graphs_and_eager_steps_share_it(self):
    finals = []
    for optimizer in (adam.Adam(0.1), tf.keras.optimizers.Adam(0.1)):
      # What Keras does on a machine with a GPU.
      optimizer.jit_compile = isinstance(optimizer, adam.Adam)
      weight = tf.Variable([1.0, -2.0])
      optimizer.build([weight])

      def step(scale, weight=weight, optimizer=optimizer):
        optimizer.apply_gradients([(scale * weight, weight)])

      for scale in (1.0, 0.5):  # Each makes a graph.
        tf.function(step, autograph=False)(scale)
        step(scale)
      finals.append(weight.numpy())
    np.testing.assert_allclose(*finals, rtol=1e-6, atol=1e-5)

  def test_a_checkpoint_of_keras_continues(self):
    path = self.create_tempdir().full_path + '/checkpoint'
    theirs, ours = tf.keras.optimizers.Adam(0.1), adam.Adam(0.1)
    before, _ = _train(theirs, _dense)
    tf.train.Checkpoint(optimizer=theirs).write(path)
    ours.build([tf.Variable(x) for x in before[-1]])
    tf.train.Checkpoint(optimizer=ours).read(path).assert_consumed()
    self.assertEqual(ours.iterations.numpy(), 6)
    for a, b in zip(ours.variables[2:], theirs.variables[2:]):
      np.testing.assert_array_equal(a.numpy(), b.numpy())


if __name__ == '__main__':
  absltest.main()
