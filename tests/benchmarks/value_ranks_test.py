"""Tests of the rank correlation of values with the time to success."""

import types as python_types

from absl.testing import absltest
import numpy as np

from benchmarks import value_ranks
from parl_tf import types


class _Critic:
  """Values a state by its first number."""

  def bind(self, observation):
    return lambda actions: observation[:, :1] + 0.0 * actions[:, :, 0]


def _episode(places, num_before_success):
  num_steps = len(places) - 1
  success = np.zeros([num_steps], bool)
  if num_before_success is not None:
    success[num_before_success:] = True
  return types.Episode(
      observation=np.float32(places)[:, np.newaxis],
      action=np.zeros([num_steps, 2], np.float32),
      reward=np.zeros([num_steps], np.float32),
      discount=np.ones([num_steps], np.float32),
      success=success,
  )


class ValueRanksTest(absltest.TestCase):

  def test_steps_before_the_first_success_count(self):
    agent = python_types.SimpleNamespace(critic=_Critic(), num_frames=1)
    rising = _episode(np.arange(21), 14)
    falling = _episode(np.arange(40, 20, -1), 10)
    short = _episode(np.arange(6), 2)
    steps = value_ranks.value_steps(
        agent, [rising, _episode(np.arange(9), None), falling, short]
    )
    np.testing.assert_array_equal(steps[0].values, np.arange(15))
    np.testing.assert_array_equal(steps[0].remaining, np.arange(15, 0, -1))
    self.assertEqual([len(x.values) for x in steps], [15, 11, 3])
    # -1 and 1; the short one has none of its own.
    self.assertIn('mean within 2 episodes 0.00', value_ranks.describe(steps))
    self.assertIn('29 steps of 3', value_ranks.describe(steps))
    self.assertIn('correlation -1.00', value_ranks.describe(steps[:1]))


if __name__ == '__main__':
  absltest.main()
