"""Tests of ranking without a change of the actions."""

from absl.testing import absltest
import tensorflow as tf

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

  def test_bad_arguments_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`num_candidates`.*0'):
      ranking.Ranking(num_candidates=0)


if __name__ == '__main__':
  absltest.main()
