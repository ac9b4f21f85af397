"""OGBench mazes: a point or a four-legged robot moves to a fixed goal.

The environments are `{pointmaze,antmaze}-*-singletask-task*` of OGBench (Park
et al., 2025, arXiv:2410.20092): cells of 4 m, 0.1 s per step. The raw reward is
-1 until the goal is reached. As in OGBench, it is that of the state before the
action, so an episode ends with the first action after success. Unlike in
OGBench, an action may be repeated for several steps, and the seed determines
all random draws.
"""

import functools
import os
from typing import Any, Mapping, Optional, Sequence, Tuple

import dm_env
from dm_env import specs
import gin
import numpy as np

from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import maze as maze_lib
from parl_tf.domains import maze_controllers
from parl_tf.domains import ogbench_scene
from parl_tf.domains import play
from parl_tf.domains import value_ranges

# Sizes of observation and action of each robot.
_SIZES = {'point': (2, 2), 'ant': (29, 8)}
# Mazes without teleports, whose random destinations cannot be seeded.
_MAZES = ('medium', 'large', 'giant')
_TASKS = range(1, 6)
_CELL_SIZE = 4.0  # Metres.
_START_NOISE = 1.0  # Half-width of the uniform noise, in metres.
_PLAY_STEPS = 1_000  # Length of a play episode in steps of 0.1 s; OGBench's.
_POINT_STEP = 0.2  # Maximum motion of the point along each axis, in metres.
_BODY_RADIUS = 0.7  # Metres, in rendered images.
_GOAL_COLOR, _BODY_COLOR = (255, 160, 160), (30, 60, 220)


class OGBenchMazeEnvironment(gymnasium_adapter.GymnasiumEnvironment):
  """A maze task as a `dm_env` environment.

  Observations of the point `[2]`: x, y in metres. Observations of the ant
  `[29]`: x, y, z, orientation (quaternion, 4), joint angles (8), then linear
  (3), angular (3) and joint velocities (8). Actions of the point `[2]`: change
  of position, at most 0.2 m along each axis. Actions of the ant `[8]`: joint
  torques.
  """

  def __init__(
      self,
      scene: Any,
      *,
      start_cells: Optional[Sequence[maze_lib.Cell]] = None,
      **options: Any,
  ):
    """Adapts and takes ownership of an OGBench environment.

    Args:
      scene: OGBench environment.
      start_cells: Cells of `maze` where episodes start, equally likely; None
        for the start cell of the task.
      **options: Arguments of `GymnasiumEnvironment`.
    """
    super().__init__(scene, **options)
    self.maze = _make_maze(scene.maze_map)
    task = scene.task_infos[scene._reward_task_id - 1]  # pylint: disable=protected-access
    self.goal_cell = self.maze.cell_at(np.array(task['goal_xy']))
    starts = start_cells or [self.maze.cell_at(np.array(task['init_xy']))]
    self._starts = [self.maze.position(cell) for cell in starts]

  def reset(self) -> dm_env.TimeStep:
    time_step = super().reset()
    scene = self.gymnasium_environment
    # OGBench draws its start noise from NumPy's global generator.
    random = scene.np_random
    start = self._starts[random.integers(len(self._starts))]
    scene.data.qpos[:2] = start + random.uniform(
        -_START_NOISE, _START_NOISE, size=2
    )
    ogbench_scene.forget(scene.model, scene.data)
    return time_step._replace(observation=scene.get_ob().astype(np.float32))

  def info(self) -> Mapping[str, np.ndarray]:
    data = self.gymnasium_environment.data
    return {
        'qpos': data.qpos.astype(np.float32),
        'qvel': data.qvel.astype(np.float32),
    }

  def render(self) -> np.ndarray:
    """Renders the maze from above: walls grey, goal red, body blue."""
    scene = self.gymnasium_environment
    goal = self.maze.position(self.goal_cell)
    return self.maze.draw([
        (goal, scene._goal_tol, _GOAL_COLOR),  # pylint: disable=protected-access
        (scene.get_xy(), _BODY_RADIUS, _BODY_COLOR),
    ])

  def close(self) -> None:
    """Does nothing: there is no renderer."""


@gin.configurable
class OGBenchMaze(domain.Domain):
  """Moving to a fixed goal, with a raw reward of -1 per step of 0.1 s."""

  def __init__(
      self,
      *,
      robot: str = 'point',
      size: str = 'medium',
      task: int = 1,
      action_repeat: int = 1,
      max_episode_steps: int = 1_000,
      reward_scale: float = 1.0,
      reward_bias: float = 0.0,
  ):
    """Initializes the task.

    Args:
      robot: `point`, or `ant`, which has no controller.
      size: `medium`, `large` or `giant`.
      task: OGBench's task number, 1 to 5, which determines start and goal.
      action_repeat: Number of 0.1 s steps for which each action is repeated.
      max_episode_steps: Environment steps before the timeout.
      reward_scale: Factor on the raw reward, which is summed over the repeated
        steps.
      reward_bias: Added to the scaled reward.

    Raises:
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('robot', robot, _SIZES)
    arguments.check_choice('size', size, _MAZES)
    arguments.check_choice('task', task, _TASKS)
    arguments.check_range('action_repeat', action_repeat, 1)
    self._set_constants(max_episode_steps, reward_scale, reward_bias)
    self._name = f'{robot}maze-{size}-singletask-task{task}-v0'
    self._robot = robot
    self._action_repeat = action_repeat
    self.recorded_task: int = task - 1

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> OGBenchMazeEnvironment:
    del evaluation  # The task determines the initial state of both.
    return self._make_environment(seed)

  def make_controller(
      self, environment: OGBenchMazeEnvironment
  ) -> Optional[maze_controllers.WaypointController]:
    if self._robot != 'point':
      return None
    return maze_controllers.WaypointController(
        environment.maze, environment.goal_cell, _move_point
    )

  def make_data_environment(self, seed: int) -> OGBenchMazeEnvironment:
    """Makes an environment that starts in any cell except the goal."""
    environment = self._make_environment(seed)
    cells = [x for x in environment.maze.cells if x != environment.goal_cell]
    return self._make_environment(seed, start_cells=cells)

  def make_data_controller(
      self, environment: OGBenchMazeEnvironment
  ) -> Optional[maze_controllers.WanderingController]:
    if self._robot != 'point':
      return None
    return maze_controllers.WanderingController(environment.maze, _move_point)

  def make_play_environment(self, seed: int) -> play.PlayEnvironment:
    """Makes an environment that starts in any cell."""
    scene = _make_scene(self._name)
    scene._terminate_at_goal = False  # pylint: disable=protected-access
    environment = OGBenchMazeEnvironment(
        scene,
        seed=seed,
        max_episode_steps=self._action_repeat
        * max(1, _PLAY_STEPS // self._action_repeat),
        start_cells=_make_maze(scene.maze_map).cells,
    )
    goals = np.array([task['goal_xy'] for task in scene.task_infos])

    def judge():
      distances = np.linalg.norm(goals - scene.get_xy(), axis=1)
      success = distances <= scene._goal_tol  # pylint: disable=protected-access
      return play.Outcome(success - 1.0, success)

    return play.PlayEnvironment(
        environment,
        judge,
        task=self.recorded_task,
        action_repeat=self._action_repeat,
        judges_first=True,
    )

  def make_play_controller(
      self, environment: play.PlayEnvironment
  ) -> Optional[maze_controllers.WanderingController]:
    return self.make_data_controller(environment.unwrapped)

  def observation_spec(self) -> specs.Array:
    size, _ = _SIZES[self._robot]
    return specs.Array((size,), np.float32, name='observation')

  def action_spec(self) -> specs.BoundedArray:
    _, size = _SIZES[self._robot]
    return specs.BoundedArray((size,), np.float32, -1.0, 1.0, name='action')

  def never_succeeds_value(self, gamma: float) -> float:
    reward = self.reward_bias - self.reward_scale * self._action_repeat
    return reward / (1.0 - gamma)

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.of_rewards(
        -self._action_repeat, 0, self.reward_scale, self.reward_bias, gamma
    )

  def _make_environment(
      self, seed: int, **options: Any
  ) -> OGBenchMazeEnvironment:
    return OGBenchMazeEnvironment(
        _make_scene(self._name),
        seed=seed,
        action_repeat=self._action_repeat,
        max_episode_steps=self.max_episode_steps,
        **options,
    )


def _move_point(observation: np.ndarray, place: np.ndarray) -> np.ndarray:
  """Returns the action `[2]` that moves as close to `place` as possible."""
  action = (place - observation) / _POINT_STEP
  return action.clip(-1.0, 1.0).astype(np.float32)


def _make_maze(maze_map: np.ndarray) -> maze_lib.Maze:
  """Converts OGBench's map: rows go upwards, and cell (1, 1) is at (0, 0)."""
  layout = [
      ''.join(maze_lib.WALL if wall else '.' for wall in row)
      for row in maze_map[::-1]
  ]
  num_rows, num_columns = maze_map.shape
  centre = _CELL_SIZE * np.array([num_columns - 3, num_rows - 3]) / 2
  return maze_lib.Maze(layout, cell_size=_CELL_SIZE, centre=tuple(centre))


def _make_scene(name: str) -> Any:
  """Returns an OGBench environment with its own simulator state.

  Copies an existing environment, because constructing one leaves a file open.
  """
  import mujoco  # pylint: disable=g-import-not-at-top

  first = _first_scene(name)
  # `copy.copy(first)` would construct another environment.
  scene = object.__new__(type(first))
  vars(scene).update(vars(first))
  scene.data = mujoco.MjData(first.model)
  scene._np_random = None  # pylint: disable=protected-access
  return scene


@functools.lru_cache(maxsize=None)
def _first_scene(name: str) -> Any:
  """Returns the environment whose model all environments of a task share."""
  scene = ogbench_scene.load(name)
  # The constructor does not delete the XML file it generates for MuJoCo.
  os.remove(scene.fullpath)
  return scene
