"""Tests of play: random moves, and the rewards of every task."""

from absl.testing import absltest
from absl.testing import parameterized
import dm_env
import mujoco
import numpy as np
from ogbench import relabel_utils

from parl_tf.domains import ogbench
from parl_tf.domains import ogbench_maze
from parl_tf.domains import play
from parl_tf.domains import pointmaze

_ACTION = np.zeros([1], np.float32)


class _Counter:
  """Counts its steps; an episode has six."""

  def reset(self):
    self.place = 0
    return dm_env.restart(np.float32([0]))

  def step(self, action):
    self.place += 1
    step = dm_env.transition(np.float32(5), np.float32([self.place]), 1.0)
    return step._replace(
        step_type=dm_env.StepType.LAST if self.place == 6 else step.step_type
    )


def _play_in(counter, **options):
  """Returns play in which places 1 and 3 solve tasks 0 and 1."""

  def judge():
    success = np.array([counter.place == 1, counter.place == 3])
    return play.Outcome(success - 1.0, success)

  return play.PlayEnvironment(
      counter, judge, task=0, action_repeat=2, **options
  )


class PlayEnvironmentTest(parameterized.TestCase):

  @parameterized.parameters(
      # Judged at places 0 1, 2 3, 4 5: -1 + 0, -1 + 0 and -2.
      (True, [[-1, -2], [-2, -1], [-2, -2]], [[1, 0], [0, 1], [0, 0]]),
      # Judged at places 1 2, 3 4, 5 6: nothing counts after a success.
      (False, [[0, -2], [-2, 0], [-2, -2]], [[1, 0], [0, 1], [0, 0]]),
  )
  def test_rewards_count_until_success(self, judges_first, rewards, successes):
    environment = _play_in(_Counter(), judges_first=judges_first)
    environment.reset()
    for reward, success in zip(rewards, successes):
      time_step = environment.step(_ACTION)
      info = environment.step_info()
      self.assertEqual(info['task_rewards'].tolist(), reward)
      self.assertEqual(info['task_successes'].tolist(), success)
      self.assertEqual(time_step.reward, reward[0])
      self.assertEqual(environment.is_success(), success[0])
    self.assertTrue(time_step.last())
    self.assertEqual(time_step.discount, 1.0)
    self.assertTrue(environment.step(_ACTION).first())

  def test_an_unhealthy_state_makes_the_episode_unfit(self):
    counter = _Counter()
    environment = _play_in(
        counter, judges_first=True, is_healthy=lambda: counter.place != 3
    )
    environment.reset()
    for fit in (True, False, False):
      environment.step(_ACTION)
      self.assertEqual(environment.may_be_recorded(), fit)
    environment.reset()
    self.assertTrue(environment.may_be_recorded())


def _record(domain, num_steps, seed=0):
  """Plays; returns positions before the steps, and the steps' infos."""
  environment, controller = domain.make_recorder(seed, play=True)
  environment.seed(seed)
  controller.reset(seed)
  time_step = environment.reset()
  rows = []
  while len(rows) < num_steps and not time_step.last():
    info = environment.info()
    action = controller.action(time_step, environment)
    environment.action_spec().validate(action)
    time_step = environment.step(action)
    rows.append({**info, **environment.step_info()})
  return {name: np.stack([x[name] for x in rows]) for name in rows[0]}


class TaskRewardsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('cube', ogbench.Cube, 'cube-single', {}),
      ('cubes', ogbench.Cube, 'cube-double', dict(size='double')),
      ('scene', ogbench.Scene, 'scene', {}),
      ('puzzle', ogbench.Puzzle, 'puzzle-3x3', {}),
      ('maze', ogbench_maze.OGBenchMaze, 'pointmaze-medium', {}),
  )
  def test_rewards_match_ogbench(self, ctor, name, options):
    """OGBench computes the rewards of a task from recorded positions."""
    rows = _record(ctor(**options), 40)
    for task in range(1, 6):
      environment = ctor(task=task, **options).make_environment(0, True)
      environment.reset()
      relabeled = dict(rows)
      relabel_utils.relabel_dataset(
          name, environment.gymnasium_environment, relabeled
      )
      np.testing.assert_array_equal(
          rows['task_rewards'][:, task - 1], relabeled['rewards']
      )
      np.testing.assert_array_equal(
          rows['task_successes'][:, task - 1], relabeled['masks'] == 0
      )

  def test_rewards_match_the_task_on_the_same_motion(self):
    domain = ogbench.Cube(action_repeat=2)
    environment = domain.make_environment(0, evaluation=True)
    played = domain.make_play_environment(0)
    controller = domain.make_controller(environment)
    time_step = environment.reset()
    played.reset()
    original = environment.gymnasium_environment
    copied = played.unwrapped.gymnasium_environment
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(original.model, kind))
    mujoco.mj_getState(original.model, original.data, state, kind)
    mujoco.mj_setState(copied.model, copied.data, state, kind)
    mujoco.mj_forward(copied.model, copied.data)
    copied.pre_step()
    while not time_step.last():
      action = controller.action(time_step, environment)
      time_step = environment.step(action)
      other = played.step(action)
      self.assertEqual(other.reward, time_step.reward)
      self.assertEqual(played.is_success(), environment.is_success())
    self.assertTrue(environment.is_success())
    self.assertFalse(other.last())

  def test_every_cell_of_the_point_maze_is_a_goal(self):
    domain = pointmaze.PointMaze(size='UMaze')
    rows = _record(domain, 200)
    cells = domain.maze.cells
    self.assertEqual(rows['task_rewards'].shape, (200, len(cells)))
    self.assertEqual(cells[domain.recorded_task], domain.goal_cell)
    np.testing.assert_array_equal(rows['task_rewards'], rows['task_successes'])
    # The positions before a step are those after the previous one.
    for task, cell in enumerate(cells):
      offset = rows['qpos'][1:] - domain.maze.position(cell)
      is_near = np.linalg.norm(offset, axis=1) < 0.44
      self.assertTrue(np.all(rows['task_successes'][:-1, task][is_near]))
    self.assertGreater(rows['task_successes'].any(axis=0).sum(), 2)


class TablePlayTest(parameterized.TestCase):

  def test_cubes_are_carried_to_random_places(self):
    domain = ogbench.Cube(action_repeat=2, oracle_min_norm=0.1)
    environment, controller = domain.make_recorder(0, play=True)
    scene = environment.unwrapped.gymnasium_environment
    controller.reset(0)
    time_step = environment.reset()
    targets = set()
    distances = []
    for _ in range(110):
      place = scene.data.mocap_pos[0]
      targets.add(tuple(place))
      time_step = environment.step(controller.action(time_step, environment))
      cube = scene.data.joint('object_joint_0').qpos[:3]
      distances.append(np.linalg.norm(cube - place))
    self.assertBetween(len(targets), 2, 4)
    self.assertLess(min(distances), 0.02)
    self.assertGreater(max(distances), 0.1)

  def test_a_seed_determines_play(self):
    first, again, other = (
        _record(ogbench.Scene(), 30, seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first['qpos'], again['qpos'])
    self.assertFalse(np.array_equal(first['qpos'], other['qpos']))

  def test_a_cube_beside_the_table_makes_the_episode_unfit(self):
    environment, _ = ogbench.Scene().make_recorder(0, play=True)
    environment.reset()
    cube = environment.unwrapped.gymnasium_environment.data.joint(
        'object_joint_0'
    )
    environment.step(np.zeros([5], np.float32))
    self.assertTrue(environment.may_be_recorded())
    cube.qpos[:3] = (0.4, 0.32, 0.02)
    environment.step(np.zeros([5], np.float32))
    self.assertFalse(environment.may_be_recorded())

  def test_the_ant_does_not_play(self):
    with self.assertRaisesRegex(ValueError, 'OGBenchMaze .* to record play'):
      ogbench_maze.OGBenchMaze(robot='ant').make_recorder(0, play=True)


if __name__ == '__main__':
  absltest.main()
