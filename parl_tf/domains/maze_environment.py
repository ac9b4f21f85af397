"""A body that is to reach a goal in a maze, stepped on MuJoCo directly."""

import abc
from typing import Any, Mapping

import dm_env
from dm_env import specs
import numpy as np

from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import maze as maze_lib

_GOAL_COLOR, _BODY_COLOR = (255, 160, 160), (30, 60, 220)


class MazeEnvironment(domain.Environment):
  """What bodies in mazes share; the kinds of them place and push one.

  Observations are all positions and rates of the body, of which the first two
  are x and y in metres. The raw reward is 1 at the goal, which ends the
  episode, else 0.
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
  ):
    """Makes an environment with simulator state of its own.

    Args:
      model: `mujoco.MjModel`; only read, so that environments can share it.
      maze: The cells of that model.
      goal_cell: Cell whose centre is the goal.
      goal_radius: Metres from the goal at which it is reached.
      body_radius: Metres; of the body in pictures.
      action_repeat: Pushes an environment step.
      max_episode_steps: Environment steps until the time-out.
      seed: Seed of the starts.
    """
    import mujoco  # pylint: disable=g-import-not-at-top

    self._mujoco = mujoco
    self._model = model
    self._data = mujoco.MjData(model)
    # A view: MuJoCo never moves this array.
    self._position = self._data.qpos[:2]
    self._action_shape = (model.nu,)
    self.maze = maze
    self.goal_cell = goal_cell
    self._goal = maze.position(goal_cell)
    self._goal_radius = goal_radius
    self._body_radius = body_radius
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
    x, y = self._position - self._goal
    return bool(x * x + y * y <= self._goal_radius**2)

  def reset(self) -> dm_env.TimeStep:
    # Clears the solver's warm start too: a reset forgets everything.
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
    """Draws the maze from above: walls grey, goal red, body blue."""
    return self.maze.draw([
        (self._goal, self._goal_radius, _GOAL_COLOR),
        (self._position, self._body_radius, _BODY_COLOR),
    ])

  @abc.abstractmethod
  def _begin(self, random: np.random.Generator) -> None:
    """Puts the body, which is at rest at the origin, where it begins."""

  @abc.abstractmethod
  def _push(self) -> None:
    """Steps the physics under the forces of `ctrl`."""

  def _observation(self) -> np.ndarray:
    return np.concatenate(
        [self._data.qpos, self._data.qvel], dtype=np.float32
    )
