"""Tests of the comparison of starts of evaluations."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf import types
from parl_tf.training import equal_starts
from parl_tf.training import evaluation
from tests.training import line_walk


def _episodes(*starts):
  return [
      types.Episode(
          observation={
              'state': np.float32([[x], [9.0]]),
              'picture': np.full([2, 1, 1, 3], int(x), np.uint8),
          },
          action=np.zeros([1, 1], np.float32),
          reward=np.zeros([1], np.float32),
          discount=np.ones([1], np.float32),
          success=np.zeros([1], bool),
      )
      for x in starts
  ]


class EqualStartsTest(parameterized.TestCase):

  def test_equal_starts_are_accepted(self):
    starts = equal_starts.EqualStarts()
    with self.assertNoLogs(level='WARNING'):
      for _ in range(2):
        starts.see(_episodes(1.0, 2.0))
      starts.see(_episodes(1.0, 2.0 + 1e-6))

  def test_another_start_is_named_once(self):
    starts = equal_starts.EqualStarts()
    starts.see(_episodes(1.0, 2.0))
    with self.assertLogs(level='WARNING') as logs:
      starts.see(_episodes(1.0, 3.0))
      starts.see(_episodes(1.0, 4.0))
    self.assertLen(logs.output, 1)
    self.assertIn('episode 1 starts elsewhere', logs.output[0])

  def test_pictures_may_vary(self):
    starts = equal_starts.EqualStarts()
    first, second = _episodes(1.0), _episodes(1.0)
    second[0].observation['picture'][:] = 7
    starts.see(first)
    with self.assertNoLogs(level='WARNING'):
      starts.see(second)

  @parameterized.parameters((None, True), (1, False))
  def test_an_evaluation_warns_unless_the_task_is_a_robot(self, limit, warns):
    domain = line_walk.LineWalk()
    domain.max_environments = limit
    environment = domain.make_environment(0, evaluation=True)
    environment.seed = lambda seed: None
    domain.make_environment = lambda *args, **kwargs: environment
    evaluator = evaluation.Evaluator(domain, num_episodes=1, seed=0)

    def evaluate():
      evaluator.run(lambda observation, seed: np.zeros([1, 1]))

    evaluate()
    context = self.assertLogs if warns else self.assertNoLogs
    with context(level='WARNING'):
      for _ in range(5):
        evaluate()


if __name__ == '__main__':
  absltest.main()
