"""Tests of ranking, ascent and selection of candidate actions."""

import math

from absl.testing import absltest
from absl.testing import parameterized
import hypothesis
from hypothesis import strategies
import numpy as np
import tensorflow as tf
from tf_agents.utils import common

from parl_tf import types
from parl_tf.search import action_optimizer
from tests import tensor_case

_SEED = (3, 5)


def _actions(*numbers):
  """Returns a row of one-dimensional actions, `[1, N, 1]`."""
  return tf.constant(numbers, tf.float32)[tf.newaxis, :, tf.newaxis]


def _parabola(actions):
  """Q(a) = -a^2, with gradient -2 a."""
  return -tf.reduce_sum(tf.square(actions), axis=-1)


def _counted_parabola():
  """Returns the parabola and a list of its calls' numbers of actions."""
  widths = []

  def value_fn(actions):
    widths.append(actions.shape[1])
    return _parabola(actions)

  return value_fn, widths


def _two_hills(actions):
  """A narrow hill that ends in a cliff at 0.6, followed by a slope."""
  x = actions[..., 0]
  return tf.where(x < 0.6, -10.0 * tf.square(x - 0.45), x - 0.8)


def _waves(actions):
  """The fifth Chebyshev polynomial: four extrema in each dimension."""
  square = tf.square(actions)
  return tf.reduce_sum(
      actions * (5.0 - square * (20.0 - 16.0 * square)), axis=-1
  )


def _make(num_candidates=2, num_gradient_steps=0, step_size=0.25, **kwargs):
  return action_optimizer.ActionOptimizer(
      num_candidates, num_gradient_steps, step_size, **kwargs
  )


class RankingTest(tensor_case.TensorCase):

  def test_the_best_are_kept_in_order(self):
    # Values -0.81, -0.01, -0.25, -0.16.
    found = _make().optimize(_actions(0.9, 0.1, -0.5, 0.4), _parabola)

    self.assertAllEqual(found.actions, _actions(0.1, 0.4))
    self.assertAllClose(found.values, [[-0.01, -0.16]])

  def test_each_row_is_ranked_separately(self):
    actions = tf.constant([[[0.5], [0.1], [0.9]], [[0.0], [1.0], [-0.5]]])
    found = _make().optimize(actions, _parabola)

    self.assertAllClose(found.actions[..., 0], [[0.1, 0.5], [0.0, -0.5]])

  def test_candidates_are_ranked_even_if_all_are_kept(self):
    found = _make(num_candidates=3).optimize(_actions(0.9, 0.1, 0.4), _parabola)

    self.assertAllEqual(found.actions, _actions(0.1, 0.4, 0.9))

  def test_no_steps_leave_actions_outside_the_bounds(self):
    found = _make().optimize(_actions(1.5, -2.0), _parabola)

    self.assertAllEqual(found.actions, _actions(1.5, -2.0))

  def test_fewer_than_k_candidates_is_an_error_that_names_both(self):
    with self.assertRaisesRegex(ValueError, r'K = 5.*N = 4'):
      _make(num_candidates=5).optimize(_actions(1, 2, 3, 4), _parabola)

  @hypothesis.settings(derandomize=True, deadline=None, max_examples=20)
  @hypothesis.given(order=strategies.permutations(range(6)))
  def test_ranking_is_permutation_invariant(self, order):
    actions = tf.random.stateless_uniform([2, 6, 3], _SEED, -1.0, 1.0)
    optimizer = _make(num_candidates=3)
    expected = optimizer.optimize(actions, _waves)
    found = optimizer.optimize(tf.gather(actions, order, axis=1), _waves)

    self.assertAllEqual(found.actions, expected.actions)
    self.assertAllClose(found.values, expected.values)


class AscentTest(tensor_case.TensorCase):

  @parameterized.parameters('best_iterate', 'reject')
  def test_steps_follow_the_gradient(self, acceptance):
    # a <- a - 0.25 * 2 a = a / 2: 0.8, 0.4, 0.2 and -0.4, -0.2, -0.1.
    optimizer = _make(num_gradient_steps=2, acceptance=acceptance)
    found = optimizer.optimize(_actions(0.8, -0.4), _parabola)

    self.assertAllClose(found.actions, _actions(-0.1, 0.2))
    self.assertAllClose(found.values, [[-0.01, -0.04]])

  @parameterized.parameters('best_iterate', 'reject')
  def test_iterates_are_clipped(self, acceptance):
    # 0.5 + 0.25 * 3 = 1.25, clipped to 1, where Q = 3; then it stays.
    optimizer = _make(1, num_gradient_steps=3, acceptance=acceptance)
    found = optimizer.optimize(_actions(0.5), lambda a: 3.0 * a[..., 0])

    self.assertAllEqual(found.actions, _actions(1.0))
    self.assertAllEqual(found.values, [[3.0]])

  @parameterized.parameters('best_iterate', 'reject')
  def test_starting_actions_are_not_clipped(self, acceptance):
    # Q = -(a - 1.5)^2 is 0 at the start; its first iterate, 1, has -0.25.
    optimizer = _make(1, num_gradient_steps=1, acceptance=acceptance)
    found = optimizer.optimize(_actions(1.5), lambda a: _parabola(a - 1.5))

    self.assertAllEqual(found.actions, _actions(1.5))
    self.assertAllEqual(found.values, [[0.0]])

  def test_the_best_of_all_iterates_is_returned(self):
    # Q = -(x^2 + 5 y^2): x <- x / 2 and y <- -1.5 y. From (0.8, 0.1) with
    # Q = -0.69: (0.4, -0.15) -0.2725, (0.2, 0.225) -0.293, (0.1, -0.3375)
    # -0.580.
    optimizer = _make(1, num_gradient_steps=3)
    found = optimizer.optimize(
        tf.constant([[[0.8, 0.1]]]), lambda a: _parabola(a * [1.0, 5.0**0.5])
    )

    self.assertAllClose(found.actions, [[[0.4, -0.15]]])
    self.assertAllClose(found.values, [[-0.2725]])

  @parameterized.parameters(
      ('best_iterate', (-0.5, 0.5, -0.5)), ('reject', (0.5, 0.5, 0.5))
  )
  def test_later_iterates_win_ties_and_rejection_undoes_them(
      self, acceptance, actions
  ):
    # With step size 1 an action jumps from a to -a, which is as good.
    for num_gradient_steps, action in enumerate(actions, start=1):
      optimizer = _make(1, num_gradient_steps, 1.0, acceptance=acceptance)
      found = optimizer.optimize(_actions(0.5), _parabola)

      self.assertAllEqual(found.actions, _actions(action))

  @parameterized.parameters(
      # From 0.4, where Q = -0.025 and the gradient 1, a step of 0.3 falls to
      # Q(0.7) = -0.1; the next one climbs to Q(1) = 0.2.
      ('best_iterate', 1, 0.4, -0.025),
      ('best_iterate', 2, 1.0, 0.2),
      ('reject', 1, 0.4, -0.025),
      ('reject', 2, 0.4, -0.025),
      ('reject', 5, 0.4, -0.025),
  )
  def test_only_rejection_stops_at_the_first_lower_value(
      self, acceptance, num_gradient_steps, action, value
  ):
    optimizer = _make(1, num_gradient_steps, 0.3, acceptance=acceptance)
    found = optimizer.optimize(_actions(0.4), _two_hills)

    self.assertAllClose(found.actions, _actions(action))
    self.assertAllClose(found.values, [[value]])

  def test_rejection_of_a_candidate_does_not_stop_the_others(self):
    # 0.4 stays; 0.65, with gradient 1, climbs to 0.95 and then to 1.
    optimizer = _make(2, 2, 0.3, acceptance='reject')
    found = optimizer.optimize(_actions(0.4, 0.65), _two_hills)

    self.assertAllClose(found.actions, _actions(1.0, 0.4))

  def test_the_ascent_can_change_the_order(self):
    # Left of 0 the slope is 1: Q(-0.5) = 0.5 moves to Q(-0.4) = 0.6. Right of 0
    # it is 4: Q(0.1) = 0.4 moves to Q(0.5) = 2.
    optimizer = _make(num_gradient_steps=1, step_size=0.1)
    found = optimizer.optimize(
        _actions(-0.5, 0.1),
        lambda a: tf.where(a < 0.0, a + 1.0, 4.0 * a)[..., 0],
    )

    self.assertAllClose(found.actions, _actions(0.5, -0.4))
    self.assertAllClose(found.values, [[2.0, 0.6]])

  @parameterized.product(
      acceptance=['best_iterate', 'reject'], num_gradient_steps=[0, 1, 4]
  )
  def test_each_pass_gives_both_value_and_gradient(
      self, acceptance, num_gradient_steps
  ):
    value_fn, widths = _counted_parabola()
    optimizer = _make(2, num_gradient_steps, acceptance=acceptance)
    found = optimizer.optimize(_actions(0.9, 0.1, -0.5, 0.4), value_fn)

    # One pass ranks the N candidates. The ascent makes T + 1 passes over the K
    # kept ones. Without steps, the values of the ranking are final.
    passes = num_gradient_steps + 1 if num_gradient_steps else 0
    self.assertEqual(widths, [4] + passes * [2])
    self.assertAllClose(found.values, _parabola(found.actions))

  def test_the_graph_of_one_step_has_no_loop(self):
    value_fn, widths = _counted_parabola()
    optimizer = _make(2, num_gradient_steps=1)
    common.function(optimizer.optimize)(_actions(0.9, 0.1, -0.5), value_fn)
    self.assertEqual(widths, [3, 2, 2])

  @hypothesis.settings(derandomize=True, deadline=None, max_examples=10)
  @hypothesis.given(
      seed=strategies.integers(0, 1000),
      acceptance=strategies.sampled_from(['best_iterate', 'reject']),
      num_gradient_steps=strategies.integers(0, 4),
      step_size=strategies.floats(1e-3, 1.0),
  )
  def test_stays_in_bounds_and_never_lowers_the_best_value(
      self, seed, acceptance, num_gradient_steps, step_size
  ):
    actions = tf.random.stateless_uniform([3, 5, 2], [seed, 0], -1.0, 1.0)
    best = tf.reduce_max(_waves(actions), axis=-1)

    optimizer = _make(3, num_gradient_steps, step_size, acceptance=acceptance)
    found = optimizer.optimize(actions, _waves)

    self.assertAllInRange(found.actions, -1.0, 1.0)
    self.assertAllInRange(found.values[:, 0] - best, 0.0, np.inf)
    self.assertAllClose(found.values, _waves(found.actions))
    self.assertAllEqual(
        found.values, tf.sort(found.values, direction='DESCENDING')
    )

  @parameterized.product(
      acceptance=['best_iterate', 'reject'], jit_compile=[False, True]
  )
  def test_compiled_search_equals_eager_search(self, acceptance, jit_compile):
    actions = tf.random.stateless_uniform([3, 5, 2], _SEED, -1.0, 1.0)
    optimizer = _make(3, 3, 0.05, acceptance=acceptance)

    @common.function(jit_compile=jit_compile)
    def compiled(actions, dataset_action):
      return optimizer.optimize(actions, _waves, dataset_action)

    expected = optimizer.optimize(actions, _waves, actions[:, 0])
    found = compiled(actions, actions[:, 0])
    self.assertAllClose(found.actions, expected.actions, atol=1e-5)
    self.assertAllClose(found.values, expected.values, atol=1e-5)

  def test_results_have_no_gradient(self):
    weight = tf.Variable(-1.0)
    samples = tf.Variable(_actions(0.8, -0.4, 0.1))
    dataset_action = tf.Variable([[0.3]])
    with tf.GradientTape() as tape:
      found = _make(num_gradient_steps=2).optimize(
          samples * 0.5,
          lambda a: weight * tf.square(a[..., 0]),
          2.0 * dataset_action,
      )
      total = tf.reduce_sum(found.actions) + tf.reduce_sum(found.values)

    gradients = tape.gradient(total, [weight, samples, dataset_action])

    self.assertEqual(gradients, [None, None, None])

  def test_a_value_without_gradient_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'differentiable'):
      _make(num_gradient_steps=1).optimize(
          _actions(0.1, 0.2), lambda a: tf.stop_gradient(a[..., 0])
      )


class DatasetActionTest(tensor_case.TensorCase):

  @parameterized.parameters(
      # The two best of 0.1, 0.4 and 0.9 are kept. 0.8 replaces the worse one,
      # although it is worse than both.
      ('replace', 2, 0.8, (0.1, 0.8)),
      ('replace', 2, 0.0, (0.0, 0.1)),
      ('replace', 1, 0.0, (0.1,)),
      ('append', 2, 0.8, (0.1, 0.4, 0.8)),
      ('append', 1, 0.8, (0.1, 0.8)),
      (None, 2, 0.0, (0.1, 0.4)),
  )
  def test_the_option_applies(self, option, num_candidates, action, expected):
    optimizer = _make(num_candidates, dataset_action=option)
    found = optimizer.optimize(
        _actions(0.4, 0.9, 0.1), _parabola, tf.constant([[action]])
    )

    self.assertAllEqual(found.actions, _actions(*expected))
    self.assertAllClose(found.values, _parabola(_actions(*expected)))

  @parameterized.parameters(
      # One step halves each kept action.
      ('replace', (0.05, 0.3)),
      ('append', (0.05, 0.2, 0.3)),
      (None, (0.05, 0.2)),
  )
  def test_climbs_like_the_others(self, option, expected):
    optimizer = _make(2, num_gradient_steps=1, dataset_action=option)
    found = optimizer.optimize(
        _actions(0.4, 0.9, 0.1), _parabola, tf.constant([[0.6]])
    )

    self.assertAllClose(found.actions, _actions(*expected))

  @parameterized.parameters(('replace', 2), ('append', 3))
  def test_is_not_ranked(self, option, num_climbing):
    value_fn, widths = _counted_parabola()
    optimizer = _make(2, num_gradient_steps=2, dataset_action=option)
    optimizer.optimize(_actions(0.4, 0.9, 0.1), value_fn, tf.constant([[0.6]]))

    self.assertEqual(widths, [3] + 3 * [num_climbing])


class SelectionTest(tensor_case.TensorCase):

  # Probabilities 3 / 4 and 1 / 4: the odds are e^(log 3).
  _VALUES = (math.log(3.0), 0.0)

  def _candidates(self, num_rows):
    actions = tf.tile(_actions(0.7, -0.7), [num_rows, 1, 1])
    return types.Candidates(actions, tf.tile([self._VALUES], [num_rows, 1]))

  @parameterized.parameters((1.0, 0.75), (0.5, 0.9), (2.0, 0.63397))
  def test_log_probs_are_a_softmax(self, temperature, expected):
    # Odds 3^(1 / temperature): 3 / 4, 9 / 10 and sqrt 3 / (1 + sqrt 3).
    optimizer = _make(temperature=temperature)
    log_probs = optimizer.log_probs(self._candidates(1))

    self.assertAllClose(
        tf.exp(log_probs), [[expected, 1.0 - expected]], atol=1e-5
    )

  def test_greedy_takes_the_first(self):
    action = _make().select(self._candidates(50), _SEED, greedy=True)

    self.assertAllEqual(action, tf.fill([50, 1], 0.7))

  @parameterized.parameters((1.0, 0.75), (0.5, 0.9))
  def test_samples_of_rows_follow_the_softmax(self, temperature, expected):
    num_rows = 4000
    optimizer = _make(temperature=temperature)
    action = optimizer.select(self._candidates(num_rows), _SEED, greedy=False)

    share = np.mean(action.numpy() > 0.0)
    # Three standard deviations of a mean of independent draws.
    deviation = math.sqrt(expected * (1.0 - expected) / num_rows)
    self.assertAlmostEqual(share, expected, delta=3.0 * deviation)

  def test_greedy_may_differ_by_row(self):
    greedy = tf.range(400) % 2 == 0
    optimizer = _make(temperature=1e6)  # Makes both equally likely.
    action = optimizer.select(self._candidates(400), _SEED, greedy)

    best = action.numpy()[:, 0] > 0.0
    self.assertTrue(np.all(best[::2]))
    self.assertBetween(np.mean(best[1::2]), 0.4, 0.6)

  def test_draws_are_a_function_of_the_seed(self):
    def select(candidates, seed):
      return _make().select(candidates, seed, greedy=False)

    compiled = common.function(select, jit_compile=True)
    candidates, seed = self._candidates(50), tf.constant(_SEED)
    actions = select(candidates, seed)

    self.assertAllEqual(select(candidates, seed), actions)
    self.assertAllEqual(compiled(candidates, seed), actions)
    self.assertNotAllEqual(select(candidates, (3, 6)), actions)


class OptionsTest(parameterized.TestCase):

  @parameterized.parameters(
      ('num_candidates', 0),
      ('num_gradient_steps', -1),
      ('step_size', 0.0),
      ('step_size', float('nan')),
      ('temperature', 0.0),
      ('acceptance', 'always'),
      ('dataset_action', 'prepend'),
  )
  def test_an_invalid_value_is_named(self, name, value):
    with self.assertRaisesRegex(ValueError, f'`{name}`.*{value}'):
      action_optimizer.ActionOptimizer(**{name: value})


if __name__ == '__main__':
  absltest.main()
