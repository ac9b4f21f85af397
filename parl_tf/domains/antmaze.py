"""Ant mazes: a four-legged robot walks through a maze to a fixed goal.

Mazes and physics are those of `AntMaze_*-v4` in gymnasium-robotics: eight joint
torques, 0.05 s per step. As in D4RL (Fu et al., 2020, arXiv:2004.07219), the
observation contains all positions and velocities. An episode starts in a fixed
cell, with noise on all positions and velocities, and ends within 0.5 m of the
goal. Unlike in D4RL, the goal is the centre of its cell.
"""

import functools
import os
from typing import Any, Optional, Tuple
import warnings

from dm_env import specs
import gin
import numpy as np

from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import maze as maze_lib
from parl_tf.domains import maze_environment
from parl_tf.domains import value_ranges

_CELL_SIZE = 4.0  # Metres, as in gymnasium-robotics.
_GOAL_RADIUS = 0.5  # Metres, as in D4RL.
_BODY_RADIUS = 0.5  # Metres, in rendered images.
_PHYSICS_STEPS = 5  # Steps of 0.01 s.
_POSITION_NOISE, _VELOCITY_NOISE = 0.1, 0.1  # As in D4RL.

_OBSERVATION_SPEC = specs.Array((29,), np.float32, name='observation')
_ACTION_SPEC = specs.BoundedArray((8,), np.float32, -1.0, 1.0, name='action')
_START_CELL = (1, 1)
_GOAL_CELLS = {'UMaze': (3, 1), 'Medium': (6, 6), 'Large': (7, 9)}


class AntMazeEnvironment(maze_environment.MazeEnvironment):
  """The ant maze environment.

  Observations `[29]`: x, y, z in metres, orientation (quaternion, 4), joint
  angles (8), then linear (3), angular (3) and joint velocities (8). Actions
  `[8]`: joint torques.
  """

  def __init__(
      self,
      model: Any,
      maze: maze_lib.Maze,
      *,
      start_cell: maze_lib.Cell,
      **options: Any,
  ):
    """Initializes an environment with a fixed start cell.

    Args:
      model: `mujoco.MjModel`. Read-only, so that environments can share it.
      maze: Cells of the model's maze.
      start_cell: Cell where episodes start.
      **options: Arguments of `MazeEnvironment`. Each action is repeated for
        `action_repeat` steps of 0.05 s.
    """
    super().__init__(
        model,
        maze,
        goal_radius=_GOAL_RADIUS,
        body_radius=_BODY_RADIUS,
        **options,
    )
    self._start = maze.position(start_cell)

  def _begin(self, random: np.random.Generator) -> None:
    data = self._data
    data.qpos[:2] = self._start
    data.qpos[:] += random.uniform(
        -_POSITION_NOISE, _POSITION_NOISE, size=data.qpos.shape
    )
    data.qvel[:] = _VELOCITY_NOISE * random.standard_normal(data.qvel.shape)
    self._mujoco.mj_forward(self._model, data)

  def _push(self) -> None:
    self._mujoco.mj_step(self._model, self._data, nstep=_PHYSICS_STEPS)


@gin.configurable
class AntMaze(domain.Domain):
  """Walking to a fixed goal, with the paper's reward bias of -1 per step."""

  def __init__(
      self,
      *,
      size: str = 'Large',
      start_cell: maze_lib.Cell = _START_CELL,
      goal_cell: Optional[maze_lib.Cell] = None,
      action_repeat: int = 1,
      max_episode_steps: int = 1_000,
      reward_scale: float = 1.0,
      reward_bias: float = -1.0,
  ):
    """Initializes the task.

    Args:
      size: `UMaze`, `Medium` or `Large`.
      start_cell: `(row, column)` where episodes start.
      goal_cell: `(row, column)` of the goal; None for the maze's default.
      action_repeat: Number of 0.05 s steps for which each action is repeated.
      max_episode_steps: Environment steps before the timeout.
      reward_scale: Factor on the raw reward, which is 1 at the goal, else 0.
      reward_bias: Added to the scaled reward.

    Raises:
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('size', size, maze_lib.LAYOUTS)
    arguments.check_range('action_repeat', action_repeat, 1)
    self._set_constants(max_episode_steps, reward_scale, reward_bias)
    self.maze = maze_lib.Maze(maze_lib.LAYOUTS[size], cell_size=_CELL_SIZE)
    self.start_cell = maze_lib.as_cell(start_cell)
    self.goal_cell = maze_lib.as_cell(goal_cell or _GOAL_CELLS[size])
    for name in ('start_cell', 'goal_cell'):
      if not self.maze.is_free(getattr(self, name)):
        raise ValueError(
            f'`{name}` must be a free cell of {size}, got'
            f' {getattr(self, name)}.'
        )
    if self.start_cell == self.goal_cell:
      raise ValueError(
          '`goal_cell` must be another cell than `start_cell`, got'
          f' {self.goal_cell} for both.'
      )
    self._size = size
    self._action_repeat = action_repeat

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> AntMazeEnvironment:
    del evaluation  # Both start in the same cell.
    return AntMazeEnvironment(
        _make_model(self._size),
        self.maze,
        start_cell=self.start_cell,
        goal_cell=self.goal_cell,
        action_repeat=self._action_repeat,
        max_episode_steps=self.max_episode_steps,
        seed=seed,
    )

  def observation_spec(self) -> specs.Array:
    return _OBSERVATION_SPEC

  def action_spec(self) -> specs.BoundedArray:
    return _ACTION_SPEC

  def never_succeeds_value(self, gamma: float) -> float:
    """Returns the discounted sum of the bias; the raw reward stays 0."""
    return self.reward_bias / (1.0 - gamma)

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.until_success(
        self.reward_scale, self.reward_bias, gamma
    )


@functools.lru_cache(maxsize=None)
def _make_model(size: str) -> Any:
  """Returns the shared `mujoco.MjModel` of a gymnasium-robotics maze."""
  # Imported lazily: the imports are slow, and not every caller needs them.
  import gymnasium  # pylint: disable=g-import-not-at-top
  import gymnasium_robotics  # pylint: disable=g-import-not-at-top

  gymnasium.register_envs(gymnasium_robotics)
  with warnings.catch_warnings():
    # Our data and results are of version 4.
    warnings.filterwarnings('ignore', '.*is out of date', DeprecationWarning)
    environment: Any = gymnasium.make(f'AntMaze_{size}-v4').unwrapped
  # The constructor does not delete the XML file it generates for MuJoCo.
  os.remove(environment.tmp_xml_file_path)
  model = environment.ant_env.model
  environment.close()
  return model
