"""Tests of the cross-entropy method."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf.search import cross_entropy_method
from tests import tensor_case

_SEED = tf.constant([3, 5])
# The last peak is out of bounds.
_PEAKS = tf.constant([[0.3, -0.6], [-0.2, 0.9], [1.5, 0.0]])


def _value(actions):
  """Computes a parabola for each state, with its peak at `_PEAKS`."""
  return -tf.reduce_sum(tf.square(actions - _PEAKS[:, tf.newaxis]), axis=-1)


def _candidates(num_samples=64):
  return randomness.uniform(_SEED, [3, num_samples, 2], -1.0, 1.0)


class CrossEntropyMethodTest(tensor_case.TensorCase):

  @parameterized.parameters(False, True)
  def test_finds_the_best_action_of_every_state(self, jit_compile):
    optimizer = cross_entropy_method.CrossEntropyMethod(
        num_candidates=6, population_size=64, num_iterations=8
    )
    optimize = tf.function(
        lambda x: optimizer.optimize(x, _value, seed=_SEED),
        autograph=False,
        jit_compile=jit_compile,
    )
    found = optimize(_candidates())
    self.assertEqual(found.actions.shape, [3, 6, 2])
    self.assertAllClose(
        found.actions[:, 0], tf.clip_by_value(_PEAKS, -1.0, 1.0), atol=0.02
    )
    self.assertAllInRange(found.actions, -1.0, 1.0)
    self.assertAllClose(found.values, _value(found.actions), atol=1e-6)
    self.assertAllEqual(
        found.values, tf.sort(found.values, direction='DESCENDING')
    )

  def test_no_iterations_only_rank(self):
    optimizer = cross_entropy_method.CrossEntropyMethod(
        num_candidates=3, population_size=8, num_iterations=0
    )
    candidates = _candidates()
    values = _value(candidates).numpy()
    found = optimizer.optimize(candidates, _value, seed=_SEED)
    for row in range(3):
      best = np.argsort(-values[row])[:3]
      self.assertAllEqual(found.actions[row], candidates[row].numpy()[best])

  def test_one_iteration_draws_around_the_elites(self):
    # The two elites of state 0 have mean 0 and standard deviation 0.5.
    candidates = tf.constant([[[0.5, 0.5], [-0.5, -0.5], [0.9, 0.9]]])
    values = tf.constant([[1.0, 1.0, 0.0]])
    optimizer = cross_entropy_method.CrossEntropyMethod(
        num_candidates=2, population_size=4_000, num_iterations=1
    )
    seen = []

    def value_fn(actions):
      if actions.shape[1] == 3:
        return values
      seen.append(actions)
      return tf.reduce_sum(actions, axis=-1)

    optimizer.optimize(candidates, value_fn, seed=_SEED)
    (population,) = seen
    self.assertAllClose(tf.reduce_mean(population), 0.0, atol=0.02)
    # Clipping at two standard deviations reduces the deviation by a factor of
    # 0.96.
    self.assertAllClose(tf.math.reduce_std(population), 0.48, atol=0.01)

  def test_equal_elites_draw_with_the_least_deviation(self):
    optimizer = cross_entropy_method.CrossEntropyMethod(
        num_candidates=2, population_size=4_000, num_iterations=1, min_std=0.1
    )
    seen = []

    def value_fn(actions):
      seen.append(actions)
      return tf.zeros(actions.shape[:2])

    optimizer.optimize(tf.zeros([1, 3, 2]), value_fn, seed=_SEED)
    self.assertAllClose(tf.math.reduce_std(seen[1]), 0.1, atol=0.005)

  def test_each_iteration_has_its_own_noise(self):
    optimizer = cross_entropy_method.CrossEntropyMethod(
        num_candidates=2, population_size=20, num_iterations=2
    )
    orders = []

    def value_fn(actions):
      orders.append(tf.argsort(actions, axis=1))
      return tf.zeros(actions.shape[:2])

    # The same noise would give the same order around any mean.
    optimizer.optimize(tf.zeros([1, 2, 2]), value_fn, seed=_SEED)
    self.assertNotAllEqual(orders[1], orders[2])

  def test_actions_depend_on_the_seed(self):
    optimizer = cross_entropy_method.CrossEntropyMethod()
    first, again, other = (
        optimizer.optimize(_candidates(), _value, seed=seed).actions
        for seed in (_SEED, _SEED, tf.constant([5, 3]))
    )
    self.assertAllEqual(first, again)
    self.assertNotAllEqual(first, other)

  @parameterized.parameters(
      (dict(num_candidates=0), '`num_candidates`.*0'),
      (dict(population_size=5), '`population_size`.*5 and 6'),
      (dict(num_iterations=-1), '`num_iterations`.*-1'),
      (dict(min_std=0.0), '`min_std`.*0.0'),
      (dict(temperature=0.0), '`temperature`.*0.0'),
  )
  def test_bad_arguments_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      cross_entropy_method.CrossEntropyMethod(**arguments)

  def test_too_few_candidates_or_no_seed_is_an_error(self):
    optimizer = cross_entropy_method.CrossEntropyMethod()
    with self.assertRaisesRegex(ValueError, 'K = 6.*N = 5'):
      optimizer.optimize(_candidates(5), _value, seed=_SEED)
    with self.assertRaisesRegex(ValueError, 'needs a `seed`'):
      optimizer.optimize(_candidates(), _value)


if __name__ == '__main__':
  absltest.main()
