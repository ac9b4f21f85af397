"""Tests of what tells failed starts from successful ones."""

from absl.testing import absltest
import numpy as np

from parl_tf import types
from parl_tf.binaries import evaluation_run
from parl_tf.training import evaluation_result
from parl_tf.training import failed_starts


def _episodes(first):
  """Returns episodes of one step with given first observations."""
  return [
      types.Episode(
          {name: np.stack([x[i], 9.0 + 0.0 * x[i]]) for name, x in
           first.items()},
          np.zeros([1, 1], np.float32),
          np.zeros([1], np.float32),
          np.ones([1], np.float32),
          np.zeros([1], bool),
          episode_id=i,
      )
      for i in range(len(next(iter(first.values()))))
  ]


class FailedStartsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    random = np.random.default_rng(0)
    self._first = {
        'goal': random.uniform(size=(40, 3)).astype(np.float32),
        'state': random.normal(size=(40, 8)).astype(np.float32),
        'image': np.zeros([40, 4, 4, 3], np.uint8),
    }
    self._goal = self._first['goal'][:, 2]

  def test_the_element_that_decides_is_named(self):
    failed = self._goal > 0.7
    found = failed_starts.find(_episodes(self._first), ~failed)
    self.assertEqual((found.element, found.separation), ('goal[2]', 1.0))
    self.assertAlmostEqual(found.failed, self._goal[failed].mean(), places=6)
    self.assertRegex(
        found.describe(),
        r'start with higher goal\[2\]: 0.8\d* .* where.*0.3.*100 % of pairs',
    )
    found = failed_starts.find(_episodes(self._first), self._goal > 0.7)
    self.assertEqual(found.separation, 0.0)
    self.assertIn('lower in 100 %', found.describe())

  def test_an_evaluation_prints_it(self):
    successes = self._goal < 0.7
    result = evaluation_result.EvaluationResult(
        tuple(_episodes(self._first)), 0.0, successes,
        np.where(successes, 1.0, np.nan), np.zeros([40]),
    )
    self.assertRegex(
        evaluation_run.describe(result), r'Failed episodes .* goal\[2\]'
    )
    summary = evaluation_run.summarize('policy', 0, result)
    self.assertEqual(summary['failed_starts']['element'], 'goal[2]')

  def test_chance_is_not_named(self):
    for seed in range(20):
      successes = np.random.default_rng(seed).uniform(size=40) > 0.4
      self.assertIsNone(failed_starts.find(_episodes(self._first), successes))

  def test_few_failures_tell_nothing(self):
    order = np.argsort(self._goal)
    successes = np.ones([40], bool)
    successes[order[-4:]] = False
    self.assertIsNone(failed_starts.find(_episodes(self._first), successes))

  def test_an_observation_may_be_one_array(self):
    episodes = [
        x._replace(observation=x.observation['goal'])
        for x in _episodes(self._first)
    ]
    found = failed_starts.find(episodes, self._goal < 0.7)
    self.assertEqual(found.element, 'observation[2]')


if __name__ == '__main__':
  absltest.main()
