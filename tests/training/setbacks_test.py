"""Tests of the comparison of success rates."""

from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized

from parl_tf.training import setbacks


class SetbacksTest(parameterized.TestCase):

  @parameterized.parameters(
      # sqrt((0.5 * 0.5 + 0.5 * 0.5) / 64) is 0.088: a fall of 0.16 is chance.
      (0.42, 0.58, 64, False),
      (0.40, 0.60, 64, True),
      # The same fall with four episodes is chance.
      (0.40, 0.60, 4, False),
      (0.60, 0.40, 64, False),
      (0.0, 0.0, 64, False),
      (0.0, 1.0, 1, False),
      (0.0, 1.0, 2, True),
  )
  def test_a_fall_by_more_than_two_standard_errors_is_worse(
      self, rate, than, num_episodes, wanted
  ):
    self.assertEqual(setbacks.is_worse(rate, than, num_episodes), wanted)

  def test_a_search_that_is_worse_than_the_policy_is_named(self):
    metrics = {
        'success_rate': 0.17,
        'success_rate_without_search': 0.39,
        'num_evaluation_episodes': 64,
    }
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      setbacks.warn_of_search(metrics, mock.Mock())
    self.assertRegex(
        logs.output[0],
        r'17 % of 64 episodes with search, but in 39 % alone.*'
        r'`Offline.num_steps`.*`Critic.gamma`',
    )

  @parameterized.parameters({'success_rate': 0.37}, {})
  def test_no_other_search_is_named(self, **search):
    metrics = {
        'success_rate_without_search': 0.39,
        'num_evaluation_episodes': 64,
        **search,
    }
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      setbacks.warn_of_search(metrics, mock.Mock())

  def test_without_a_search_nothing_is_blamed_on_it(self):
    metrics = {
        'success_rate': 0.17,
        'success_rate_without_search': 0.39,
        'num_evaluation_episodes': 64,
    }
    agent = mock.Mock()
    agent.searches.evaluation.optimizer = None
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      setbacks.warn_of_search(metrics, agent)
      setbacks.warn_of_search(metrics, object())  # `DPPOAgent`


if __name__ == '__main__':
  absltest.main()
