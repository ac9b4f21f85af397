"""Tests of what is said of data without success flags."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.datasets import inspection
from parl_tf.datasets import missing_success
from parl_tf.datasets import rows as rows_lib
from tests.datasets import d4rl_columns

_DENSE = np.linspace(-1.0, 5.0, 13)  # Ten of these are positive.


class RewardsTest(parameterized.TestCase):

  def test_highest_reward_of_an_episode_may_be_anywhere(self):
    rewards = missing_success.Rewards()
    for part in [-1, 0], [-1, -1]:
      rewards.add(np.array(part), np.zeros([2], np.bool_))
    rewards.end_episode()
    self.assertIn(
        '1 of 1 episodes succeed', rewards.hint(None, rows_lib.Layout())
    )

  def test_dense_rewards_that_count_as_successes_are_named(self):
    path = self.create_tempfile('data.hdf5').full_path
    columns = d4rl_columns.make('-----T------t', rewards=_DENSE)
    d4rl_columns.write(path, columns)
    self.assertEqual(
        inspection.inspect(path).success_hint,
        '77% of the rows count as successes: there are no success flags, and'
        ' rewards above `dataset.success_reward` = 0 count. Bind it to a number'
        ' that only the rewards of successes exceed; if the task has none, to'
        ' one above all rewards, which are at most 5 here.',
    )

  @parameterized.parameters(
      (np.minimum(np.round(_DENSE), 1.0), None, {}),  # Few different ones.
      (_DENSE, None, dict(success_reward=3.0)),  # Most are not above it.
      (_DENSE, 'infos/success', {}),
      (_DENSE, None, dict(every_episode_succeeds=True)),
      (_DENSE, None, dict(success_reward=np.inf)),  # None is expected.
  )
  def test_other_successes_are_believed(self, values, flags, options):
    layout = rows_lib.Layout(**options)
    rewards = missing_success.Rewards()
    rewards.add(values, values > layout.success_reward)
    rewards.end_episode()
    self.assertEmpty(rewards.hint(flags, layout))


if __name__ == '__main__':
  absltest.main()
