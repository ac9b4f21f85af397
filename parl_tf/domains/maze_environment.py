"""A body that moves to a goal in a maze, simulated with MuJoCo directly."""

import abc
from typing import Any, Mapping, Union

import dm_env
from dm_env import specs
import numpy as np

from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import maze as maze_lib

_GOAL_COLOR, _BODY_COLOR = (255, 160, 160), (30, 60, 220)


class MazeEnvironment(domain.Environment):
  """Base class of the maze environments.

  Subclasses define how to place and push the body. Observations are all
  positions and velocities of the body, starting with x and y in metres. The raw
  reward is 1 at the goal, which ends the episode, and 0 elsewhere.
  """

  def __init__(
      self,
      model: Any,
      maze: maze_lib.Maze,
      *,
      goal_cell: maze_lib.Cell,
      goal_radius: float,
      body_radius: float,
      action_repeat: int,
      max_episode_steps: int,
      seed: int,
      ends_at_goal: bool = True,
  ):
    """Initializes an environment with its own simulator state.

    Args:
      model: `mujoco.MjModel`. Read-only, so that environments can share it.
      maze: Cells of the model's maze.
      goal_cell: Cell whose centre is the goal.
      goal_radius: Distance in metres at which the goal is reached.
      body_radius: Radius of the body in rendered images, in metres.
      action_repeat: Number of calls of `_push` per environment step.
      max_episode_steps: Environment steps before the timeout.
      seed: Seed of the initial states.
      ends_at_goal: Whether an episode ends at the goal.
    """
    import mujoco  # pylint: disable=g-import-not-at-top

    self._mujoco = mujoco
    self._model = model
    self._data = mujoco.MjData(model)
    # A view, because MuJoCo never reallocates this array.
    self._position = self._data.qpos[:2]
    self._action_shape = (model.nu,)
    self.maze = maze
    self.goal_cell = goal_cell
    self._goal = maze.position(goal_cell)
    self._goal_x, self._goal_y = self._goal.tolist()
    self._goal_radius = goal_radius
    self._body_radius = body_radius
    self._action_repeat = action_repeat
    self._max_episode_steps = max_episode_steps
    self._ends_at_goal = ends_at_goal
    self._num_steps = 0
    self._needs_reset = True
    self.seed(seed)

  @property
  def position(self) -> np.ndarray:
    """Position `[x, y]` of the body in metres."""
    return self._position

  def seed(self, seed: Union[int, np.random.Generator]) -> None:
    """Seeds the initial states; environments may share a generator."""
    self._random = np.random.default_rng(seed)

  def is_success(self) -> bool:
    # Python's numbers: NumPy takes five times as long for two of them.
    x, y = self._position.tolist()
    x, y = x - self._goal_x, y - self._goal_y
    return x * x + y * y <= self._goal_radius**2

  def reset(self) -> dm_env.TimeStep:
    # Also clears the solver's warm start, so that no state survives a reset.
    self._mujoco.mj_resetData(self._model, self._data)
    self._begin(self._random)
    self._num_steps = 0
    self._needs_reset = False
    return dm_env.restart(self._observation())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    if self._needs_reset:
      return self.reset()
    action = arguments.check_action(action, self._action_shape)
    self._data.ctrl[:] = action.clip(-1.0, 1.0)
    is_success = False
    for _ in range(self._action_repeat):
      self._push()
      is_success = self.is_success()
      if is_success:
        break
    self._num_steps += 1
    timed_out = self._num_steps >= self._max_episode_steps
    is_terminal = is_success and self._ends_at_goal
    self._needs_reset = is_terminal or timed_out
    return domain.make_time_step(
        self._observation(),
        is_success,
        is_terminal=is_terminal,
        is_timeout=timed_out,
    )

  def observation_spec(self) -> specs.Array:
    size = self._model.nq + self._model.nv
    return specs.Array((size,), np.float32, name='observation')

  def action_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
        self._action_shape, np.float32, -1.0, 1.0, name='action'
    )

  def info(self) -> Mapping[str, np.ndarray]:
    return {
        'qpos': self._data.qpos.astype(np.float32),
        'qvel': self._data.qvel.astype(np.float32),
    }

  def render(self) -> np.ndarray:
    """Renders the maze from above: walls grey, goal red, body blue."""
    return self.maze.draw([
        (self._goal, self._goal_radius, _GOAL_COLOR),
        (self._position, self._body_radius, _BODY_COLOR),
    ])

  @abc.abstractmethod
  def _begin(self, random: np.random.Generator) -> None:
    """Moves the body from the model's default pose to a start state."""

  @abc.abstractmethod
  def _push(self) -> None:
    """Advances the physics with the forces in `ctrl`."""

  def _observation(self) -> np.ndarray:
    return np.concatenate(
        [self._data.qpos, self._data.qvel], dtype=np.float32
    )
