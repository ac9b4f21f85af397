"""Point mazes: a ball is pushed through a maze to a fixed, distant goal.

Physics and mazes are those of `PointMaze_*-v3` in gymnasium-robotics: a force
on a ball of 4.2 kg, steps of 0.01 s, and velocities clipped to 5 m/s along each
axis. Unlike there, each force is repeated for `action_repeat` physics steps,
episodes start in random cells far from the goal, and the observation does not
contain the goal.
"""

import functools
import os
from typing import Any, Optional, Sequence, Tuple

from dm_env import specs
import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import maze as maze_lib
from parl_tf.domains import maze_controllers
from parl_tf.domains import maze_environment
from parl_tf.domains import play
from parl_tf.domains import value_ranges

_MAX_SPEED = 5.0  # Metres per second along each axis, as in gymnasium-robotics.
_GOAL_RADIUS = 0.45  # Metres, as in gymnasium-robotics.
_BODY_RADIUS = 0.15  # Metres, in rendered images; the ball itself has 0.1.
_PLAY_SECONDS = 100.0  # Duration of an episode of play.
_TYPICAL_SPEED = 2.5  # Metres per second along each axis in recorded data.

_OBSERVATION_SPEC = specs.Array((4,), np.float32, name='observation')
_ACTION_SPEC = specs.BoundedArray((2,), np.float32, -1.0, 1.0, name='action')
_GOAL_CELLS = {'UMaze': (3, 1), 'Medium': (6, 6), 'Large': (7, 9)}
_MIN_START_DISTANCES = {'UMaze': 4, 'Medium': 8, 'Large': 11}


class PointMazeEnvironment(maze_environment.MazeEnvironment):
  """The point maze environment.

  Observations `[4]`: x, y in metres, and their velocities in metres per second.
  Actions `[2]`: forces along x and y.
  """

  def __init__(
      self,
      model: Any,
      maze: maze_lib.Maze,
      *,
      start_cells: Sequence[maze_lib.Cell],
      start_noise: float,
      **options: Any,
  ):
    """Initializes an environment that starts in random cells.

    Args:
      model: `mujoco.MjModel`. Read-only, so that environments can share it.
      maze: Cells of the model's maze.
      start_cells: Cells where episodes start, equally likely.
      start_noise: Half-width in metres of the uniform noise on the start.
      **options: Arguments of `MazeEnvironment`. Each force is repeated for
        `action_repeat` steps of 0.01 s.
    """
    super().__init__(
        model,
        maze,
        goal_radius=_GOAL_RADIUS,
        body_radius=_BODY_RADIUS,
        **options,
    )
    self._start_positions = [maze.position(cell) for cell in start_cells]
    self._start_noise = start_noise
    # Cached for the physics steps. A view, because MuJoCo never reallocates it.
    self._velocity = self._data.qvel
    self._step_physics = self._mujoco.mj_step

  def _begin(self, random: np.random.Generator) -> None:
    start = random.integers(len(self._start_positions))
    noise = random.uniform(-self._start_noise, self._start_noise, size=2)
    self._position[:] = self._start_positions[start] + noise

  def _push(self) -> None:
    x, y = self._velocity.tolist()
    if not (abs(x) <= _MAX_SPEED and abs(y) <= _MAX_SPEED):
      self._velocity.clip(-_MAX_SPEED, _MAX_SPEED, out=self._velocity)
    self._step_physics(self._model, self._data)


@gin.configurable
class PointMaze(domain.Domain):
  """Reaching a fixed goal from random distant cells; -1 per step."""

  def __init__(
      self,
      *,
      size: str = 'Large',
      goal_cell: Optional[maze_lib.Cell] = None,
      min_start_distance: Optional[int] = None,
      start_noise: float = 0.1,
      action_repeat: int = 10,
      max_episode_steps: int = 70,
      reward_scale: float = 1.0,
      reward_bias: float = -1.0,
  ):
    """Initializes the task.

    Args:
      size: `UMaze`, `Medium` or `Large`.
      goal_cell: `(row, column)` of the goal; None for the maze's default.
      min_start_distance: Minimum length in cells of the shortest route from
        start to goal; None for the maze's default.
      start_noise: Half-width in metres of the uniform noise on the start.
      action_repeat: Number of 0.01 s steps for which each force is repeated.
      max_episode_steps: Environment steps before the timeout.
      reward_scale: Factor on the raw reward, which is 1 at the goal, else 0.
      reward_bias: Added to the scaled reward.

    Raises:
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('size', size, maze_lib.LAYOUTS)
    # With more noise the ball would touch walls.
    arguments.check_range('start_noise', start_noise, 0.0, 0.35)
    arguments.check_range('action_repeat', action_repeat, 1)
    self._set_constants(max_episode_steps, reward_scale, reward_bias)
    self.maze = maze_lib.Maze(maze_lib.LAYOUTS[size])
    self.goal_cell = maze_lib.as_cell(goal_cell or _GOAL_CELLS[size])
    if not self.maze.is_free(self.goal_cell):
      raise ValueError(
          f'`goal_cell` must be a free cell of {size}, got {self.goal_cell}.'
      )
    if min_start_distance is None:
      min_start_distance = _MIN_START_DISTANCES[size]
    self.start_cells = self._cells_at_distance(min_start_distance)
    self._size = size
    self._start_noise = start_noise
    self._action_repeat = action_repeat
    # Each cell is the goal of one task.
    self.recorded_task: int = self.maze.cells.index(self.goal_cell)

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> PointMazeEnvironment:
    del evaluation  # Both start far from the goal.
    return self._make_environment(seed, self.start_cells)

  def make_controller(
      self, environment: PointMazeEnvironment
  ) -> maze_controllers.WaypointController:
    return maze_controllers.WaypointController(
        environment.maze, environment.goal_cell
    )

  def make_data_environment(self, seed: int) -> PointMazeEnvironment:
    """Makes an environment that starts in any cell except the goal."""
    return self._make_environment(seed, self._cells_at_distance(1))

  def make_data_controller(
      self, environment: PointMazeEnvironment
  ) -> maze_controllers.WanderingController:
    return maze_controllers.WanderingController(environment.maze)

  def make_play_environment(self, seed: int) -> play.PlayEnvironment:
    """Makes an environment that starts in any cell; every cell is a task."""
    num_pushes = round(_PLAY_SECONDS / _make_model(self._size).opt.timestep)
    environment = self._make_environment(
        seed,
        self.maze.cells,
        action_repeat=1,
        max_episode_steps=self._action_repeat
        * max(1, num_pushes // self._action_repeat),
        ends_at_goal=False,
    )
    goals = np.array([self.maze.position(cell) for cell in self.maze.cells])

    def judge():
      offset = goals - environment.position
      success = np.sum(offset * offset, axis=1) <= _GOAL_RADIUS**2
      return play.Outcome(success.astype(np.float64), success)

    return play.PlayEnvironment(
        environment,
        judge,
        task=self.recorded_task,
        action_repeat=self._action_repeat,
        judges_first=False,
    )

  def make_play_controller(
      self, environment: play.PlayEnvironment
  ) -> maze_controllers.WanderingController:
    return self.make_data_controller(environment.unwrapped)

  def observation_spec(self) -> specs.Array:
    return _OBSERVATION_SPEC

  def action_spec(self) -> specs.BoundedArray:
    return _ACTION_SPEC

  @property
  def normalization(self) -> types.Normalization:
    """Statistics of uniform positions in the maze and of typical speeds."""
    rows, columns = self.maze.shape
    spread = np.array([columns - 2, rows - 2]) / np.sqrt(12.0)
    return types.Normalization(
        mean=np.zeros([4], np.float32),
        standard_deviation=np.concatenate(
            [spread, [_TYPICAL_SPEED, _TYPICAL_SPEED]], dtype=np.float32
        ),
    )

  def never_succeeds_value(self, gamma: float) -> float:
    """Returns the discounted sum of the bias; the raw reward stays 0."""
    return self.reward_bias / (1.0 - gamma)

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.until_success(
        self.reward_scale, self.reward_bias, gamma
    )

  def _cells_at_distance(self, minimum: int) -> Sequence[maze_lib.Cell]:
    distances, _ = self.maze.routes_to(self.goal_cell)
    arguments.check_range(
        'min_start_distance', minimum, 1, max(distances.values())
    )
    return [cell for cell in self.maze.cells if distances[cell] >= minimum]

  def _make_environment(
      self, seed: int, start_cells: Sequence[maze_lib.Cell], **options: Any
  ) -> PointMazeEnvironment:
    options = {
        'action_repeat': self._action_repeat,
        'max_episode_steps': self.max_episode_steps,
        **options,
    }
    return PointMazeEnvironment(
        _make_model(self._size),
        self.maze,
        goal_cell=self.goal_cell,
        start_cells=start_cells,
        start_noise=self._start_noise,
        seed=seed,
        **options,
    )


@functools.lru_cache(maxsize=None)
def _make_model(size: str) -> Any:
  """Returns the `mujoco.MjModel` of a gymnasium-robotics maze.

  All environments of a size share one model, which they only read: compiling it
  takes 0.1 s, and making the state of an environment only 0.3 ms.
  """
  # Imported lazily: the imports are slow, and not every caller needs them.
  import gymnasium  # pylint: disable=g-import-not-at-top
  import gymnasium_robotics  # pylint: disable=g-import-not-at-top

  gymnasium.register_envs(gymnasium_robotics)
  environment: Any = gymnasium.make(f'PointMaze_{size}-v3').unwrapped
  # The constructor does not delete the XML file it generates for MuJoCo.
  os.remove(environment.tmp_xml_file_path)
  model = environment.model
  environment.close()
  return model
