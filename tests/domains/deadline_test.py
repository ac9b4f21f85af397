"""Tests of tasks with a deadline."""

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import numpy as np

from parl_tf import types
from parl_tf.domains import deadline
from parl_tf.domains import domain as domain_lib
from parl_tf.domains import pointmaze
from tests.domains import controller_episode
from tests.domains import domain_conformance


def _episode(num_steps, *, solved=False, has_last_transition=True):
  """Returns an episode whose observations and actions count its steps."""
  success = np.zeros(num_steps, np.bool_)
  success[-1] = solved
  steps = np.arange(num_steps + 1, dtype=np.float32)
  return types.Episode(
      observation=steps[:, None],
      action=steps[:-1, None] / num_steps,
      reward=np.full(num_steps, -1.0, np.float32),
      discount=1.0 - success.astype(np.float32),
      success=success,
      has_last_transition=has_last_transition,
  )


class _Counter(domain_lib.Domain):
  """A domain of which only observations and the time limit are used."""

  max_episode_steps = 4

  def make_environment(self, seed, evaluation):
    raise NotImplementedError

  def observation_spec(self):
    return specs.Array((1,), np.float32)

  def action_spec(self):
    return specs.BoundedArray((1,), np.float32, -1.0, 1.0)


def _convert(episodes, **options):
  task = deadline.Deadline(_Counter(), **options)
  return list(task.convert_episodes(episodes))


class ConvertEpisodesTest(absltest.TestCase):

  def test_divides_at_deadlines(self):
    first, second, third = _convert([_episode(9)], num_countdowns=1)
    np.testing.assert_array_equal(
        first.observation,
        [[0, 1], [1, 0.75], [2, 0.5], [3, 0.25], [4, 0]],
    )
    np.testing.assert_array_equal(first.discount, [1, 1, 1, 0])
    np.testing.assert_array_equal(second.observation[:, 0], [4, 5, 6, 7, 8])
    np.testing.assert_array_equal(third.observation, [[8, 1], [9, 0.75]])
    np.testing.assert_array_equal(third.discount, [1])
    np.testing.assert_array_equal(third.action, [[np.float32(8 / 9)]])

  def test_countdowns_are_shifted_evenly(self):
    pieces = _convert([_episode(4)], num_countdowns=2)
    self.assertEqual(
        [piece.observation[0].tolist() for piece in pieces],
        [[0, 1], [0, 0.5], [2, 1]],
    )
    self.assertEqual([piece.episode_id for piece in pieces], [0, 1, 2])

  def test_every_step_occurs_once_in_each_countdown(self):
    pieces = _convert([_episode(11), _episode(3)], num_countdowns=3)
    self.assertEqual(sum(piece.num_steps for piece in pieces), 3 * 14)

  def test_success_is_the_only_reward_and_ends_the_task(self):
    *_, last = _convert([_episode(6, solved=True)], num_countdowns=1)
    np.testing.assert_array_equal(last.reward, [0, 1])
    np.testing.assert_array_equal(last.discount, [1, 0])

  def test_success_at_the_deadline_counts(self):
    (piece,) = _convert([_episode(4, solved=True)], num_countdowns=1)
    np.testing.assert_array_equal(piece.reward, [0, 0, 0, 1])
    self.assertEqual(piece.discount[-1], 0)

  def test_only_the_end_of_the_data_lacks_a_transition(self):
    pieces = _convert(
        [_episode(6, has_last_transition=False)], num_countdowns=1
    )
    self.assertEqual([x.has_last_transition for x in pieces], [True, False])

  def test_a_deadline_needs_no_observation_after_it(self):
    (piece,) = _convert(
        [_episode(4, has_last_transition=False)], num_countdowns=1
    )
    self.assertTrue(piece.has_last_transition)

  def test_rejects_more_countdowns_than_steps(self):
    with self.assertRaisesRegex(ValueError, r'`num_countdowns`.*\[1, 4\]'):
      deadline.Deadline(_Counter(), num_countdowns=5)


class DeadlineTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.domain = deadline.Deadline(
        pointmaze.PointMaze(max_episode_steps=3),
        num_countdowns=1,
        reward_scale=5.0,
    )

  def test_the_deadline_ends_the_task(self):
    environment = self.domain.make_environment(seed=0, evaluation=True)
    steps = [environment.reset()]
    while not steps[-1].last():
      steps.append(environment.step(np.zeros(2, np.float32)))
    np.testing.assert_allclose(
        [step.observation[-1] for step in steps], [1, 2 / 3, 1 / 3, 0]
    )
    self.assertEqual([step.discount for step in steps[1:]], [1, 1, 0])
    self.assertEqual([step.reward for step in steps[1:]], [0, 0, 0])

  def test_the_controller_succeeds_with_a_reward_of_1(self):
    domain = deadline.Deadline(pointmaze.PointMaze())
    rewards = controller_episode.solve(
        self, domain, domain.make_environment(seed=0, evaluation=True)
    )
    self.assertEqual(rewards, [0.0] * (len(rewards) - 1) + [1.0])

  def test_returns_are_discounted_probabilities_of_success(self):
    self.assertEqual(self.domain.value_range(0.99), (0.0, 5.0))
    self.assertEqual(self.domain.never_succeeds_value(0.99), 0.0)

  def test_records_data_of_the_task_without_a_deadline(self):
    environment, _ = self.domain.make_recorder(seed=0)
    inner = pointmaze.PointMaze()
    self.assertEqual(environment.observation_spec(), inner.observation_spec())
    self.assertEqual(
        self.domain.dataset_options()['observation_spec'],
        inner.observation_spec(),
    )


class ConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return deadline.Deadline(pointmaze.PointMaze(max_episode_steps=20))


if __name__ == '__main__':
  absltest.main()
