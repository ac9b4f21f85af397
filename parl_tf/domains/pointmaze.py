"""Point mazes: a ball pushed through a maze to a fixed, far goal.

Physics and mazes are those of gymnasium-robotics, `PointMaze_*-v3`: a force on
a ball of 4.2 kg, steps of 0.01 s, speeds clipped to 5 m/s along each axis.
Here a force is held for `action_repeat` physics steps, starts are random cells
far from the goal, and the goal is no part of the observation.
"""

import functools
import os
from typing import Any, Dict, Mapping, Optional, Sequence

import dm_env
from dm_env import specs
import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import domain
from parl_tf.domains import maze as maze_lib

_MAX_SPEED = 5.0  # Metres per second along each axis, as gymnasium-robotics.
_GOAL_RADIUS = 0.45  # Metres, as gymnasium-robotics.
_ARRIVAL_RADIUS = 0.35  # Metres from which the next target is drawn.
# The controllers: metres per second for each metre to the next turn, the most
# along each axis, and force for each metre per second that is missing. A full
# force held for 0.1 s changes the speed by 2.4 m/s.
_APPROACH_RATE = 4.0
_WALKING_SPEED = 4.0
_FORCE_GAIN = 0.35
_TYPICAL_SPEED = 2.5  # Metres per second along each axis in that data.

_GOAL_CELLS = {'UMaze': (3, 1), 'Medium': (6, 6), 'Large': (7, 9)}
_MIN_START_DISTANCES = {'UMaze': 4, 'Medium': 8, 'Large': 11}


class PointMazeEnvironment(domain.Environment):
  """The maze task, stepped on MuJoCo directly.

  Observations are float32 `[4]`: x, y in metres and their rates in metres per
  second. Actions are forces `[2]` along x and y.
  """

  def __init__(
      self,
      model: Any,
      maze: maze_lib.Maze,
      *,
      goal_cell: maze_lib.Cell,
      start_cells: Sequence[maze_lib.Cell],
      start_noise: float,
      action_repeat: int,
      max_episode_steps: int,
      seed: int,
  ):
    """Makes an environment with simulator state of its own.

    Args:
      model: `mujoco.MjModel`; only read, so that environments can share it.
      maze: The cells of that model.
      goal_cell: Cell whose centre is the goal.
      start_cells: Cells in which an episode begins, equally likely.
      start_noise: Half the width in metres of the uniform noise on a start.
      action_repeat: Physics steps an environment step.
      max_episode_steps: Environment steps until the time-out.
      seed: Seed of the starts.
    """
    import mujoco  # pylint: disable=g-import-not-at-top

    self._step_physics = mujoco.mj_step
    self._reset_physics = mujoco.mj_resetData
    self._model = model
    self._data = mujoco.MjData(model)
    # Views: MuJoCo never moves these arrays.
    self._position = self._data.qpos
    self._velocity = self._data.qvel
    self.maze = maze
    self.goal_cell = goal_cell
    self._goal = maze.position(goal_cell)
    self._start_positions = [maze.position(cell) for cell in start_cells]
    self._start_noise = start_noise
    self._action_repeat = action_repeat
    self._max_episode_steps = max_episode_steps
    self._num_steps = 0
    self._needs_reset = True
    self.seed(seed)

  @property
  def goal(self) -> np.ndarray:
    """The goal `[x, y]` in metres."""
    return self._goal.copy()

  def seed(self, seed: int) -> None:
    self._random = np.random.default_rng(seed)

  def is_success(self) -> bool:
    x, y = self._position
    goal_x, goal_y = self._goal
    return bool((x - goal_x) ** 2 + (y - goal_y) ** 2 <= _GOAL_RADIUS**2)

  def reset(self) -> dm_env.TimeStep:
    start = self._random.integers(len(self._start_positions))
    noise = self._random.uniform(-self._start_noise, self._start_noise, size=2)
    # Clears the solver's warm start too: a reset forgets everything.
    self._reset_physics(self._model, self._data)
    self._position[:] = self._start_positions[start] + noise
    self._num_steps = 0
    self._needs_reset = False
    return dm_env.restart(self._observation())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    if self._needs_reset:
      return self.reset()
    self._data.ctrl[:] = _check_action(action).clip(-1.0, 1.0)
    is_success = False
    for _ in range(self._action_repeat):
      self._velocity.clip(-_MAX_SPEED, _MAX_SPEED, out=self._velocity)
      self._step_physics(self._model, self._data)
      is_success = self.is_success()
      if is_success:
        break
    self._num_steps += 1
    timed_out = self._num_steps >= self._max_episode_steps
    self._needs_reset = is_success or timed_out
    return dm_env.TimeStep(
        step_type=(
            dm_env.StepType.LAST if self._needs_reset else dm_env.StepType.MID
        ),
        reward=np.float32(is_success),
        discount=np.float32(not is_success),
        observation=self._observation(),
    )

  def observation_spec(self) -> specs.Array:
    return _observation_spec()

  def action_spec(self) -> specs.BoundedArray:
    return _action_spec()

  def info(self) -> Mapping[str, np.ndarray]:
    return {
        'qpos': self._position.astype(np.float32),
        'qvel': self._velocity.astype(np.float32),
    }

  def render(self) -> np.ndarray:
    """Draws the maze from above: walls grey, goal red, ball blue."""
    return self.maze.draw([
        (self._goal, _GOAL_RADIUS, (255, 160, 160)),
        (self._position, 0.15, (30, 60, 220)),
    ])

  def _observation(self) -> np.ndarray:
    return np.concatenate([self._position, self._velocity], dtype=np.float32)


class WaypointController(domain.Controller):
  """Takes the shortest way to one cell: run by run, braking at each turn."""

  def __init__(self, maze: maze_lib.Maze, target: maze_lib.Cell):
    self._maze = maze
    _, self._following = maze.routes_to(target)

  def reset(self, seed: int) -> None:
    del seed  # It draws nothing.

  def action(
      self, time_step: dm_env.TimeStep, environment: domain.Environment
  ) -> np.ndarray:
    del environment
    return _steer(time_step.observation, self._maze, self._following)


class WanderingController(domain.Controller):
  """Walks from cell to cell near by, by varying short ways.

  Each target is drawn from the cells at most `max_walk` cells away. The cost of
  each cell is drawn anew with every target, uniform between 1 and `1 + detour`,
  so that all ways not much longer than the shortest are taken.
  """

  def __init__(self, maze: maze_lib.Maze, *, max_walk: int, detour: float):
    self._maze = maze
    self._max_walk = max_walk
    self._detour = detour
    self._random = None
    self._target = None
    self._following = None

  def reset(self, seed: int) -> None:
    self._random = np.random.default_rng(seed)
    self._target = None

  def action(
      self, time_step: dm_env.TimeStep, environment: domain.Environment
  ) -> np.ndarray:
    del environment
    position = time_step.observation[:2]
    if self._target is None or self._is_at_target(position):
      self._draw_target(self._maze.cell_at(position))
    return _steer(time_step.observation, self._maze, self._following)

  def info(self) -> Mapping[str, np.ndarray]:
    return {'goal': self._maze.position(self._target).astype(np.float32)}

  def _is_at_target(self, position: np.ndarray) -> bool:
    offset = position - self._maze.position(self._target)
    return bool(np.sum(offset * offset) <= _ARRIVAL_RADIUS**2)

  def _draw_target(self, present: maze_lib.Cell) -> None:
    distances, _ = self._maze.routes_to(present)
    cells = [
        cell
        for cell in self._maze.cells
        if 0 < distances[cell] <= self._max_walk
    ]
    self._target = cells[self._random.integers(len(cells))]
    costs = self._random.uniform(1.0, 1.0 + self._detour, len(self._maze.cells))
    _, self._following = self._maze.routes_to(
        self._target, dict(zip(self._maze.cells, costs))
    )


@gin.configurable
class PointMaze(domain.Domain):
  """Reaching a fixed goal from random cells far from it; -1 a step."""

  def __init__(
      self,
      *,
      size: str = 'Large',
      goal_cell: Optional[maze_lib.Cell] = None,
      min_start_distance: Optional[int] = None,
      start_noise: float = 0.1,
      action_repeat: int = 10,
      max_episode_steps: int = 70,
      max_walk: int = 6,
      detour: float = 1.0,
      reward_scale: float = 1.0,
      reward_bias: float = -1.0,
  ):
    """Makes the task.

    Args:
      size: `UMaze`, `Medium` or `Large`.
      goal_cell: `(row, column)` of the goal; None for the maze's own.
      min_start_distance: Cells on the shortest way from a start to the goal,
        at least; None for the maze's own.
      start_noise: Half the width in metres of the uniform noise on a start.
      action_repeat: Physics steps of 0.01 s for which a force is held.
      max_episode_steps: Environment steps until the time-out.
      max_walk: Cells to the next target, at most, for the controller that
        records data.
      detour: How much the cost of a cell varies for it, as a share of the
        least.
      reward_scale: Factor on the raw reward, which is 1 at the goal, else 0.
      reward_bias: Added to the scaled reward.
    """
    if size not in maze_lib.LAYOUTS:
      raise ValueError(
          f'`size` must be one of {list(maze_lib.LAYOUTS)}, got {size!r}.'
      )
    # Further out the ball touches walls.
    _check_range('start_noise', start_noise, 0.0, 0.35)
    _check_range('action_repeat', action_repeat, 1)
    _check_range('max_episode_steps', max_episode_steps, 1)
    _check_range('max_walk', max_walk, 1)
    _check_range('detour', detour, 0.0)
    if reward_scale <= 0:
      raise ValueError(f'`reward_scale` must be positive, got {reward_scale}.')
    self.reward_scale = reward_scale
    self.reward_bias = reward_bias
    self.max_episode_steps = max_episode_steps
    self.maze = maze_lib.Maze(maze_lib.LAYOUTS[size])
    self.goal_cell = tuple(goal_cell or _GOAL_CELLS[size])
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
    self._max_walk = max_walk
    self._detour = detour

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> PointMazeEnvironment:
    del evaluation  # Both begin far from the goal.
    return self._make_environment(seed, self.start_cells)

  def make_controller(
      self, environment: PointMazeEnvironment
  ) -> WaypointController:
    return WaypointController(environment.maze, environment.goal_cell)

  def make_data_environment(self, seed: int) -> PointMazeEnvironment:
    """Makes an environment that begins in any cell but the goal's."""
    return self._make_environment(seed, self._cells_at_distance(1))

  def make_data_controller(
      self, environment: PointMazeEnvironment
  ) -> WanderingController:
    return WanderingController(
        environment.maze, max_walk=self._max_walk, detour=self._detour
    )

  def observation_spec(self) -> specs.Array:
    return _observation_spec()

  def action_spec(self) -> specs.BoundedArray:
    return _action_spec()

  @property
  def normalization(self) -> types.Normalization:
    """That of positions spread evenly over the maze, at walking speeds."""
    rows, columns = self.maze.shape
    spread = np.array([columns - 2, rows - 2]) / np.sqrt(12.0)
    return types.Normalization(
        mean=np.zeros([4], np.float32),
        standard_deviation=np.concatenate(
            [spread, [_TYPICAL_SPEED, _TYPICAL_SPEED]], dtype=np.float32
        ),
    )

  def never_succeeds_value(self, gamma: float) -> float:
    """Returns the bias summed for ever, as the raw reward stays 0."""
    return self.reward_bias / (1.0 - gamma)

  def _cells_at_distance(self, minimum: int) -> Sequence[maze_lib.Cell]:
    distances, _ = self.maze.routes_to(self.goal_cell)
    if not 1 <= minimum <= max(distances.values()):
      raise ValueError(
          f'`min_start_distance` must be in [1, {max(distances.values()):.0f}]'
          f' with the goal in {self.goal_cell}, got {minimum}.'
      )
    return [cell for cell in self.maze.cells if distances[cell] >= minimum]

  def _make_environment(
      self, seed: int, start_cells: Sequence[maze_lib.Cell]
  ) -> PointMazeEnvironment:
    return PointMazeEnvironment(
        _make_model(self._size),
        self.maze,
        goal_cell=self.goal_cell,
        start_cells=start_cells,
        start_noise=self._start_noise,
        action_repeat=self._action_repeat,
        max_episode_steps=self.max_episode_steps,
        seed=seed,
    )


@functools.lru_cache(maxsize=None)
def _make_model(size: str) -> Any:
  """Returns the `mujoco.MjModel` of gymnasium-robotics' maze.

  Environments only read it, so that all of a size share one: compiling it takes
  0.1 s, the state of an environment 0.3 ms.
  """
  # Imported here, for they take long and not every user of a domain steps it.
  import gymnasium  # pylint: disable=g-import-not-at-top
  import gymnasium_robotics  # pylint: disable=g-import-not-at-top

  gymnasium.register_envs(gymnasium_robotics)
  environment = gymnasium.make(f'PointMaze_{size}-v3').unwrapped
  # The constructor leaves the file from which MuJoCo read the maze.
  os.remove(environment.tmp_xml_file_path)
  model = environment.model
  environment.close()
  return model


def _steer(
    observation: np.ndarray,
    maze: maze_lib.Maze,
    following: Dict[maze_lib.Cell, maze_lib.Cell],
) -> np.ndarray:
  """Returns the force `[2]` that follows a route at the rate of decisions."""
  position, velocity = observation[:2], observation[2:]
  turn = maze.end_of_run(maze.cell_at(position), following)
  wanted = _APPROACH_RATE * (maze.position(turn) - position)
  wanted = wanted.clip(-_WALKING_SPEED, _WALKING_SPEED)
  return (_FORCE_GAIN * (wanted - velocity)).clip(-1.0, 1.0).astype(np.float32)


def _check_action(action: np.ndarray) -> np.ndarray:
  action = np.asarray(action)
  if action.shape != (2,):
    raise ValueError(f'`action` must have shape (2,), got {action.shape}.')
  if not np.all(np.isfinite(action)):
    raise ValueError(f'`action` must be finite, got {action}.')
  return action


def _check_range(
    name: str, value: float, low: float, high: float = np.inf
) -> None:
  if not low <= value <= high:
    raise ValueError(f'`{name}` must be in [{low}, {high}], got {value}.')


def _observation_spec() -> specs.Array:
  return specs.Array(shape=(4,), dtype=np.float32, name='observation')


def _action_spec() -> specs.BoundedArray:
  return specs.BoundedArray(
      shape=(2,), dtype=np.float32, minimum=-1.0, maximum=1.0, name='action'
  )
