"""Tests of ranking without a change of the actions."""

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow as tf

from parl_tf.search import action_optimizer
from parl_tf.search import cross_entropy_method
from parl_tf.search import ranking
from tests import tensor_case


class RankingTest(tensor_case.TensorCase):

  def test_keeps_the_best_candidates(self):
    candidates = tf.constant([[[0.1], [0.9], [-0.5]], [[0.3], [-0.2], [0.0]]])
    found = ranking.Ranking(num_candidates=2).optimize(
        candidates, lambda actions: -tf.abs(actions[..., 0])
    )
    self.assertAllClose(found.actions, [[[0.1], [-0.5]], [[0.0], [-0.2]]])
    self.assertAllClose(found.values, [[-0.1, -0.5], [0.0, -0.2]])

  @parameterized.parameters(
      ranking.Ranking,
      action_optimizer.ActionOptimizer,
      cross_entropy_method.CrossEntropyMethod,
  )
  def test_values_of_a_wrong_shape_are_an_error(self, optimizer_ctor):
    with self.assertRaisesRegex(ValueError, r'`value_fn`.*\(2, 3, 1\)'):
      optimizer_ctor(num_candidates=1).optimize(
          tf.zeros([2, 3, 1]), lambda actions: actions, seed=(3, 5)
      )

  def test_bad_arguments_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`num_candidates`.*0'):
      ranking.Ranking(num_candidates=0)


if __name__ == '__main__':
  absltest.main()
