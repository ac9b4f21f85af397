"""Tests of the comparison of evaluations."""

from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized

from parl_tf.training import setbacks

_CRITIC_MISLEADS = {
    # The policy wins eight starts alone, and loses one.
    'outcomes': '1' + '0' * 8 + '1' * 11,
    'outcomes_without_search': '0' + '1' * 19,
    'success_rate': 0.6,
    'success_rate_without_search': 0.95,
}


class SetbacksTest(parameterized.TestCase):

  @parameterized.parameters(
      # Five starts lost and none won: 1 / 32. Six: 1 / 64.
      ('0000011111', '1111111111', False),
      ('0000001111', '1111111111', True),
      # Six lost and one won: 8 / 128. Eight and one: 10 / 512.
      ('0000001111', '1111110111', False),
      ('0000000011', '1111111101', True),
      ('1111111111', '0000000000', False),
      # The first starts are the same.
      ('000000', '111111' + '0' * 100, True),
      ('0' * 100, '11111', False),
      ('', '111111', False),
  )
  def test_starts_are_compared_one_by_one(self, outcomes, than, wanted):
    self.assertEqual(setbacks.is_worse(outcomes, than), wanted)

  def test_a_chance_may_be_given(self):
    self.assertTrue(setbacks.is_worse('000', '111', 0.125))
    self.assertFalse(setbacks.is_worse('000', '111', 0.124))

  def test_the_best_of_many_must_be_clearer(self):
    for number, wanted in ((0, True), (1, True), (6, True), (7, False)):
      # Eight starts lost and none won: 1 / 256.
      found = setbacks.is_worse('0' * 8, '1' * 8, num_compared=number)
      self.assertEqual(found, wanted)

  def test_the_better_policy_counts(self):
    self.assertEqual(
        setbacks.better_outcomes(
            {'outcomes': '0101', 'outcomes_without_search': '0111'}
        ),
        '0111',
    )
    for search in ({}, {'outcomes': None}):
      metrics = {'outcomes_without_search': '000', **search}
      self.assertEqual(setbacks.better_outcomes(metrics), '000')
    self.assertEqual(setbacks.better_outcomes({}), '')

  def test_a_search_that_is_worse_than_the_policy_is_named(self):
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      setbacks.warn_of_search(_CRITIC_MISLEADS, mock.Mock())
    self.assertRegex(
        logs.output[0],
        r'60 % of 20 episodes with search, but in 95 % alone.*'
        r'`Offline.num_steps`.*`Critic.gamma`',
    )

  @parameterized.parameters({'outcomes': '0' + '1' * 19}, {'outcomes': None})
  def test_no_other_search_is_named(self, outcomes):
    metrics = {**_CRITIC_MISLEADS, 'outcomes': outcomes}
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      setbacks.warn_of_search(metrics, mock.Mock())

  def test_without_a_search_nothing_is_blamed_on_it(self):
    agent = mock.Mock()
    agent.searches.evaluation.optimizer = None
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      setbacks.warn_of_search(_CRITIC_MISLEADS, agent)
      setbacks.warn_of_search(_CRITIC_MISLEADS, object())  # `DPPOAgent`


if __name__ == '__main__':
  absltest.main()
