"""Maze controllers: one walks to a goal, one wanders to record data."""

from typing import Callable, Mapping

import dm_env
import gin
import numpy as np

from parl_tf.domains import domain
from parl_tf.domains import maze as maze_lib

Drive = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps an observation and a waypoint `[x, y]` to an action towards it.

The observation starts with the position `[x, y]` of the body.
"""

_ARRIVAL_RADIUS = 0.35  # Distance in cells at which a target is reached.
# Gain from distance (m) to desired velocity (m/s), maximum speed along each
# axis (m/s), and gain from velocity error (m/s) to force. Full force for 0.1 s
# changes the velocity by 2.4 m/s.
_APPROACH_RATE = 4.0
_WALKING_SPEED = 4.0
_FORCE_GAIN = 0.35


def push_ball(observation: np.ndarray, place: np.ndarray) -> np.ndarray:
  """Returns the force `[2]` on a `pointmaze` ball that drives it to `place`.

  The desired velocity is proportional to the distance, so the ball brakes.
  """
  position, velocity = observation[:2], observation[2:]
  wanted = _APPROACH_RATE * (place - position)
  wanted = wanted.clip(-_WALKING_SPEED, _WALKING_SPEED)
  return (_FORCE_GAIN * (wanted - velocity)).clip(-1.0, 1.0).astype(np.float32)


class WaypointController(domain.Controller):
  """Follows the shortest route to a cell, straight between turns."""

  def __init__(
      self,
      maze: maze_lib.Maze,
      target: maze_lib.Cell,
      drive: Drive = push_ball,
  ):
    self._maze = maze
    self._drive = drive
    _, self._following = maze.routes_to(target)

  def reset(self, seed: int) -> None:
    del seed  # The controller is deterministic.

  def action(
      self, time_step: dm_env.TimeStep, environment: domain.Environment
  ) -> np.ndarray:
    del environment
    turn = _next_turn(time_step.observation, self._maze, self._following)
    return self._drive(time_step.observation, turn)


@gin.configurable(denylist=['maze', 'drive'])
class WanderingController(domain.Controller):
  """Walks between nearby cells along varying routes, with random pushes.

  Each target is drawn from the cells at most `max_walk` cells away. For each
  target, the cost of every cell is drawn uniformly from [1, `1 + detour`], so
  that all routes not much longer than the shortest one occur. Occasionally the
  controller strays: it pushes in one random direction for some decisions,
  regardless of walls. Otherwise the data would contain no collisions with them.
  """

  def __init__(
      self,
      maze: maze_lib.Maze,
      drive: Drive = push_ball,
      *,
      max_walk: int = 6,
      detour: float = 1.0,
      stray_rate: float = 0.1,
      max_stray_steps: int = 8,
  ):
    """Initializes the controller.

    Args:
      maze: Maze to walk in.
      drive: Maps observations and waypoints to actions.
      max_walk: Maximum distance to the next target, in cells.
      detour: Range of the cell costs, relative to the minimum cost.
      stray_rate: Probability per decision of starting to stray.
      max_stray_steps: Maximum number of decisions per stray.

    Raises:
      ValueError: If a number is out of range.
    """
    for name, value, low, high in (
        ('max_walk', max_walk, 1, np.inf),
        ('detour', detour, 0.0, np.inf),
        ('stray_rate', stray_rate, 0.0, 1.0),
        ('max_stray_steps', max_stray_steps, 1, np.inf),
    ):
      if not low <= value <= high:
        raise ValueError(
            f'`{name}` must be in [{low:g}, {high:g}], got {value}.'
        )
    self._maze = maze
    self._drive = drive
    self._max_walk = max_walk
    self._detour = detour
    self._stray_rate = stray_rate
    self._max_stray_steps = max_stray_steps
    self._random: np.random.Generator  # Set by `reset`.
    self._has_target = False
    self._target: maze_lib.Cell  # Set by the first action.
    self._following: Mapping[maze_lib.Cell, maze_lib.Cell] = {}
    self._stray_steps = 0
    self._stray_action = np.zeros([2], np.float32)

  def reset(self, seed: int) -> None:
    self._random = np.random.default_rng(seed)
    self._has_target = False
    self._stray_steps = 0

  def action(
      self, time_step: dm_env.TimeStep, environment: domain.Environment
  ) -> np.ndarray:
    del environment
    position = time_step.observation[:2]
    if not self._has_target or self._is_at_target(position):
      self._draw_target(self._maze.cell_at(position))
    if not self._stray_steps and self._random.random() < self._stray_rate:
      self._stray_steps = self._random.integers(1, self._max_stray_steps + 1)
      angle = self._random.uniform(0.0, 2.0 * np.pi)
      # Scale to full force along at least one axis.
      push = np.array([np.cos(angle), np.sin(angle)])
      self._stray_action = (push / np.abs(push).max()).astype(np.float32)
    if self._stray_steps:
      self._stray_steps -= 1
      return self._stray_action
    turn = _next_turn(time_step.observation, self._maze, self._following)
    return self._drive(time_step.observation, turn)

  def info(self) -> Mapping[str, np.ndarray]:
    return {'goal': self._maze.position(self._target).astype(np.float32)}

  def _is_at_target(self, position: np.ndarray) -> bool:
    offset = position - self._maze.position(self._target)
    radius = _ARRIVAL_RADIUS * self._maze.cell_size
    return bool(np.sum(offset * offset) <= radius**2)

  def _draw_target(self, present: maze_lib.Cell) -> None:
    distances, _ = self._maze.routes_to(present)
    cells = [
        cell
        for cell in self._maze.cells
        if 0 < distances[cell] <= self._max_walk
    ]
    self._has_target = True
    self._target = cells[self._random.integers(len(cells))]
    costs = self._random.uniform(1.0, 1.0 + self._detour, len(self._maze.cells))
    _, self._following = self._maze.routes_to(
        self._target, dict(zip(self._maze.cells, costs))
    )


def _next_turn(
    observation: np.ndarray,
    maze: maze_lib.Maze,
    following: Mapping[maze_lib.Cell, maze_lib.Cell],
) -> np.ndarray:
  """Returns the position `[x, y]` of the next turn, or of the route's end."""
  cell = maze.cell_at(observation[:2])
  return maze.position(maze.end_of_run(cell, following))
