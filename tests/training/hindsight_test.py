"""Tests of copies of episodes with the goals that they reached."""

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np
import tree

from parl_tf import types
from parl_tf.domains import goals as goals_lib
from parl_tf.domains import pointmaze
from parl_tf.training import hindsight


class _Line(goals_lib.Goals):
  """Positions on a line, followed by the desired one; -1 per step until there.

  A goal is reached within 0.5.
  """

  def __init__(self, is_terminal=False):
    self._is_terminal = is_terminal

  def achieved(self, observation):
    return observation[:, :1]

  def desired(self, observation):
    return observation[:, 1:]

  def replaced(self, observation, goal):
    return np.stack(
        [observation[:, 0], np.full(len(observation), goal[0])], axis=1
    )

  def judge(self, achieved, goal):
    success = np.abs(achieved - goal)[:, 0] < 0.5
    return goals_lib.Judgment(
        np.where(success, 0.0, -1.0).astype(np.float32),
        success,
        success & self._is_terminal,
    )

  def goals(self):
    return self


def _episode(positions, *, discount=1.0, **kwargs):
  num_steps = len(positions) - 1
  return types.Episode(
      observation=np.stack(
          [positions, np.full(len(positions), 9.0)], axis=1
      ).astype(np.float32),
      action=np.arange(num_steps, dtype=np.float32)[:, None] / 10,
      reward=np.full(num_steps, -1.0, np.float32),
      discount=np.array([1.0] * (num_steps - 1) + [discount], np.float32),
      success=np.zeros(num_steps, np.bool_),
      **kwargs,
  )


class CopiesTest(parameterized.TestCase):

  def test_a_copy_is_rewarded_for_what_the_episode_reached(self):
    episode = _episode([0, 0, 1, 2, 2], episode_id=3, policy_version=7)
    (copy,) = hindsight.copies(episode, _Line(), 1)
    goal = copy.observation[0, 1]
    self.assertIn(goal, (1.0, 2.0))
    np.testing.assert_array_equal(copy.observation[:, 0], [0, 0, 1, 2, 2])
    np.testing.assert_array_equal(copy.observation[:, 1], [goal] * 5)
    reached = np.array([0, 1, 2, 2]) == goal
    np.testing.assert_array_equal(copy.reward, np.where(reached, 0, -1))
    np.testing.assert_array_equal(copy.success, reached)
    np.testing.assert_array_equal(copy.discount, np.ones(4))
    np.testing.assert_array_equal(copy.action, episode.action)
    self.assertEqual(copy.policy_version, 7)
    self.assertTrue(copy.has_last_transition)
    np.testing.assert_array_equal(episode.observation[:, 1], [9.0] * 5)

  def test_goals_are_of_different_steps(self):
    copies = hindsight.copies(_episode(range(6)), _Line(), 9)
    self.assertCountEqual(
        [copy.observation[0, 1] for copy in copies], [1, 2, 3, 4, 5]
    )
    self.assertLen({copy.episode_id for copy in copies}, 5)

  def test_goals_that_hold_at_the_start_are_left_out(self):
    self.assertEmpty(hindsight.copies(_episode([0, 0.1, 0.2]), _Line(), 4))
    (copy,) = hindsight.copies(_episode([0, 3, 0.1]), _Line(), 4)
    self.assertEqual(copy.observation[0, 1], 3)

  def test_draws_depend_on_the_episode_alone(self):
    def drawn(episode_id):
      episode = _episode(range(30), episode_id=episode_id)
      return [
          copy.observation[0, 1]
          for copy in hindsight.copies(episode, _Line(), 3)
      ]

    self.assertEqual(drawn(1), drawn(1))
    self.assertNotEqual(drawn(1), drawn(2))

  def test_a_goal_that_ends_the_task_ends_the_copy(self):
    copies = hindsight.copies(
        _episode([0, 1, 2, 3]), _Line(is_terminal=True), 3
    )
    by_goal = {copy.observation[0, 1]: copy for copy in copies}
    for goal in (1, 2, 3):
      copy = by_goal[goal]
      self.assertEqual(copy.num_steps, goal)
      self.assertLen(copy.observation, goal + 1)
      np.testing.assert_array_equal(copy.discount, [1] * (goal - 1) + [0])
      self.assertTrue(copy.has_last_transition)

  @parameterized.parameters(False, True)
  def test_copies_with_a_limit_begin_at_most_so_far_from_their_goals(
      self, is_terminal
  ):
    episode = _episode(
        [0, 0, 0, 1, 2, 3], episode_id=4, has_last_transition=False
    )
    copies = hindsight.copies(episode, _Line(is_terminal), 9, max_steps=2)
    # The last step may lead anywhere, and two steps before 0 the place is 0.
    by_goal = {copy.observation[0, 1]: copy for copy in copies}
    self.assertSameElements(by_goal, [1, 2])
    # A goal that does not end the task does not end its copy.
    end = 3 if is_terminal else 4
    copy = by_goal[2]
    np.testing.assert_array_equal(copy.observation[:, 0], [0, 1, 2, 3][:end])
    np.testing.assert_array_equal(copy.action, episode.action[2 : 1 + end])
    np.testing.assert_array_equal(copy.reward, [-1, 0, -1][: end - 1])
    np.testing.assert_array_equal(
        copy.discount, [1, 0] if is_terminal else [1, 1, 1]
    )
    self.assertEqual(copy.has_last_transition, is_terminal)
    self.assertEqual(by_goal[1].num_steps, 2 if is_terminal else 4)

  def test_a_limit_beyond_the_episode_changes_nothing(self):
    episode = _episode(range(9), episode_id=4)
    all_steps = hindsight.copies(episode, _Line(True), 3)
    limited = hindsight.copies(episode, _Line(True), 3, max_steps=9)
    self.assertLen(all_steps, 3)
    for one, other in zip(all_steps, limited):
      tree.map_structure(np.testing.assert_array_equal, one, other)

  @parameterized.parameters(
      dict(discount=0.0), dict(has_last_transition=False)
  )
  def test_a_last_step_that_may_lead_anywhere_makes_no_transition(
      self, **kwargs
  ):
    (copy, *_) = hindsight.copies(_episode(range(4), **kwargs), _Line(), 1)
    self.assertFalse(copy.has_last_transition)
    np.testing.assert_array_equal(copy.discount, [1, 1, 1])


class HindsightTest(parameterized.TestCase):

  def tearDown(self):
    gin.clear_config()
    super().tearDown()

  def test_nothing_is_copied_by_default(self):
    copies = hindsight.Hindsight(pointmaze.PointMaze())
    self.assertEmpty(copies.copies('offline', _episode(range(4))))

  def test_each_table_has_its_number(self):
    copies = hindsight.Hindsight(_Line(), offline_goals=1, online_goals=2)
    episode = _episode(range(6))
    self.assertLen(copies.copies('offline', episode), 1)
    self.assertLen(copies.copies('online', episode), 2)
    self.assertEqual(copies.num_transitions('online', [episode] * 2), 30)
    self.assertLen(copies.with_copies('offline', [episode] * 2), 4)

  def test_data_that_the_goals_judge_alike_are_accepted(self):
    line = _Line(is_terminal=True)
    copies = hindsight.Hindsight(line, online_goals=2)
    episodes = hindsight.copies(_episode(range(6)), line, 3)
    episodes.append(_episode([0, 0, 0, 0]))
    with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
      copies.check(episodes)
    self.assertRegex(
        logs.output[0], r'first 4 episodes.*, 3 have copies; 5 of 5 copies'
    )

  def test_rewards_that_contradict_the_data_raise(self):
    episode = _episode(range(6))
    episode.reward[3] = 0.0
    with self.assertRaisesRegex(
        ValueError, r'gives 1 of 5 steps.*step 3 of episode 0.*0 in.*-1 here'
    ):
      hindsight.Hindsight(_Line(), offline_goals=1).check([episode])

  def test_ends_that_contradict_the_data_raise(self):
    line = _Line(is_terminal=True)
    (episode, *_) = hindsight.copies(_episode(range(6)), line, 1)
    episode = episode._replace(episode_id=5)
    with self.assertRaisesRegex(
        ValueError, 'ends 1 of 1 episodes.*first is episode 5.*compute_termina'
    ):
      hindsight.Hindsight(_Line(), offline_goals=1).check([episode])

  def test_a_last_observation_that_a_file_lacks_is_not_judged(self):
    line = _Line(is_terminal=True)
    (episode, *_) = hindsight.copies(_episode(range(5)), line, 1)
    observation = episode.observation.copy()
    observation[-1] = observation[-2]  # As readers repeat it.
    copies = hindsight.Hindsight(line, offline_goals=1)
    copies.check([episode._replace(observation=observation)])
    copies.check([_episode([0, 1], has_last_transition=False)])

  def test_copies_without_success_raise(self):
    line = _Line()
    judge = line.judge
    line.judge = lambda *x: judge(*x)._replace(
        success=np.zeros(len(x[0]), np.bool_)
    )
    with self.assertRaisesRegex(ValueError, 'none of 2 is.*reward_range'):
      hindsight.Hindsight(line, offline_goals=2).check([_episode(range(6))])

  def test_a_negative_number_raises(self):
    with self.assertRaisesRegex(ValueError, 'online_goals.*not be negative'):
      hindsight.Hindsight(_Line(), online_goals=-1)

  def test_a_limit_of_no_steps_raises(self):
    with self.assertRaisesRegex(ValueError, 'max_steps.*positive, got 0'):
      hindsight.Hindsight(_Line(), online_goals=1, max_steps=0)

  def test_the_limit_holds_for_each_table(self):
    copies = hindsight.Hindsight(
        _Line(is_terminal=True), offline_goals=8, online_goals=8, max_steps=3
    )
    for table in ('offline', 'online'):
      made = copies.copies(table, _episode(range(9)))
      self.assertSameElements([copy.num_steps for copy in made], [1, 2, 3])

  def test_a_task_with_a_fixed_goal_raises(self):
    with self.assertRaisesRegex(ValueError, 'must be 0 for PointMaze'):
      hindsight.Hindsight(pointmaze.PointMaze(), offline_goals=1)


if __name__ == '__main__':
  absltest.main()
