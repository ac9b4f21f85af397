"""Point mazes that are seen from above in small pictures.

The task is that of `pointmaze`, but the observation has no coordinates: a
picture shows the walls, the ball and the goals. A single picture has no
velocities; a policy infers them from consecutive ones. With several goals, an
instruction tells which one counts.

NumPy draws the pictures: walls and goals once, and the ball at every step.
"""

import functools
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import dm_env
from dm_env import specs
import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import maze as maze_lib
from parl_tf.domains import pointmaze

VOCABULARY = ('go', 'to', 'the', 'red', 'blue', 'square')
"""Words of the instructions; a token is an index of this tuple."""

GOAL_COLORS = {'red': (230, 40, 40), 'blue': (40, 80, 230)}
"""Colour of each goal, in the order of `DrawnMaze.goal_cells`."""

_FREE_COLOR, _WALL_COLOR, _BALL_COLOR = 255, 120, 0
_GOAL_SIDE = 0.7  # Cells.
_BALL_RADIUS = 0.4  # Cells; larger than the ball, whose radius is 0.1.
# A ball's border is blended over one pixel, so that its position can be
# determined more precisely than to one pixel.
_BLUR = 0.5  # Pixels on either side of the border.
_GOAL_STREAM = 1  # Of random numbers.
_RENDERED_SIZE = 384  # Pixels, at least.


def encode_instruction(color: str) -> np.ndarray:
  """Returns the tokens `[5]` of "go to the <color> square".

  They are float32, because observations are numbers or images.
  """
  words = ('go', 'to', 'the', color, 'square')
  return np.array([VOCABULARY.index(word) for word in words], np.float32)


class Picture:
  """Draws a maze with a ball, centred in a square picture."""

  def __init__(
      self, maze: maze_lib.Maze, goal_cells: Sequence[maze_lib.Cell], size: int
  ):
    """Draws the walls and goals.

    Args:
      maze: The maze.
      goal_cells: Cells of the goals; each has the next of `GOAL_COLORS`.
      size: Height and width in pixels.
    """
    self._size = size
    self._maze = maze
    rows, columns = maze.shape
    self._pixels_per_metre = size / (max(rows, columns) * maze.cell_size)
    # Positions of pixel centres in metres.
    offsets = (np.arange(size) + 0.5 - size / 2) / self._pixels_per_metre
    x = maze.centre[0] + offsets
    y = maze.centre[1] - offsets
    self._background = np.full([size, size, 3], _WALL_COLOR, np.uint8)
    colors = dict(zip(map(tuple, goal_cells), GOAL_COLORS.values()))
    half = maze.cell_size / 2
    for cell in maze.cells:
      centre = maze.position(cell)
      self._fill(x, y, centre, half, _FREE_COLOR)
      if cell in colors:
        self._fill(x, y, centre, _GOAL_SIDE * half, colors[cell])
    self._radius = _BALL_RADIUS * maze.cell_size * self._pixels_per_metre

  def draw(self, position: np.ndarray) -> np.ndarray:
    """Returns a picture `[size, size, 3]` uint8 with the ball at `[x, y]`."""
    image = self._background.copy()
    right, up = (position - self._maze.centre) * self._pixels_per_metre
    row, column = self._size / 2 - up, self._size / 2 + right
    reach = self._radius + _BLUR
    top, left = max(int(row - reach), 0), max(int(column - reach), 0)
    patch = image[top : int(row + reach) + 1, left : int(column + reach) + 1]
    down = np.arange(top, top + patch.shape[0]) + 0.5 - row
    across = np.arange(left, left + patch.shape[1]) + 0.5 - column
    distance = np.sqrt(down[:, np.newaxis] ** 2 + across**2)
    cover = ((reach - distance) / (2 * _BLUR)).clip(0.0, 1.0)[..., np.newaxis]
    patch[:] = patch + cover * (_BALL_COLOR - patch.astype(np.float64)) + 0.5
    return image

  def _fill(self, x, y, centre, half, color):
    inside = (np.abs(y - centre[1]) < half)[:, np.newaxis] & (
        np.abs(x - centre[0]) < half
    )
    self._background[inside] = color


class DrawnMazeEnvironment(domain.Environment):
  """A point maze with one environment per goal, observed in pictures.

  The observation is `picture` `[size, size, 3]` uint8. If there are several
  goals it also has `instruction` `[5]` float32, the tokens of the goal that
  counts in this episode. Reaching another goal has no effect.

  Attributes:
    goal: Index of the goal that counts.
    state: Position and velocity `[4]` of the ball, which are not observed.
  """

  def __init__(
      self,
      environments: Sequence[pointmaze.PointMazeEnvironment],
      picture: Picture,
      seed: int,
  ):
    """Takes ownership of the environments.

    Args:
      environments: An environment of the same maze for each goal.
      picture: Draws the maze.
      seed: Seed of the goals and of the initial states.
    """
    self._environments = environments
    self._picture = picture
    self._instructions = [
        encode_instruction(color)
        for color, _ in zip(GOAL_COLORS, environments)
    ]
    self.goal = 0
    self.state = np.zeros([4], np.float32)
    self.seed(seed)

  @property
  def unwrapped(self) -> pointmaze.PointMazeEnvironment:
    """The point maze of the goal that counts."""
    return self._environments[self.goal]

  def seed(self, seed: int) -> None:
    # Of its own: the environments draw the start from `seed`, and it must not
    # tell which goal counts.
    self._random = np.random.default_rng([seed, _GOAL_STREAM])
    # Shared, so that the first episode of a goal does not start like that of
    # another one.
    starts = np.random.default_rng(seed)
    for environment in self._environments:
      environment.seed(starts)
    self._needs_reset = True

  def reset(self) -> dm_env.TimeStep:
    self.goal = int(self._random.integers(len(self._environments)))
    self._needs_reset = False
    return self._seen(self.unwrapped.reset())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    if self._needs_reset:
      return self.reset()
    time_step = self.unwrapped.step(action)
    self._needs_reset = time_step.last()
    return self._seen(time_step)

  def is_success(self) -> bool:
    return self.unwrapped.is_success()

  def info(self) -> Mapping[str, np.ndarray]:
    return self.unwrapped.info()

  def observation_spec(self) -> Mapping[str, specs.Array]:
    return _observation_spec(self._picture.draw(np.zeros(2)).shape,
                             len(self._environments))

  def action_spec(self) -> specs.BoundedArray:
    return self.unwrapped.action_spec()

  def render(self) -> np.ndarray:
    """Returns the picture, enlarged."""
    image = self._picture.draw(self.unwrapped.position)
    factor = -(-_RENDERED_SIZE // len(image))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)

  def _seen(self, time_step: dm_env.TimeStep) -> dm_env.TimeStep:
    self.state = time_step.observation
    observation = {'picture': self._picture.draw(self.unwrapped.position)}
    if len(self._environments) > 1:
      observation['instruction'] = self._instructions[self.goal].copy()
    return time_step._replace(observation=observation)


class _StateController(domain.Controller):
  """Gives a controller of the point maze the state instead of the picture.

  The controller is made at the first action of each episode, when the goal is
  known.
  """

  def __init__(self, make: Callable[[Any], domain.Controller]):
    self._make = make
    self._seed = 0
    self._controller: Optional[domain.Controller] = None

  def reset(self, seed: int) -> None:
    self._seed = seed
    self._controller = None

  def action(
      self, time_step: dm_env.TimeStep, environment: DrawnMazeEnvironment
  ) -> np.ndarray:
    if self._controller is None:
      self._controller = self._make(environment.unwrapped)
      self._controller.reset(self._seed)
    return self._controller.action(
        time_step._replace(observation=environment.state),
        environment.unwrapped,
    )

  def info(self) -> Mapping[str, np.ndarray]:
    return {} if self._controller is None else self._controller.info()


@gin.configurable
class DrawnMaze(domain.Domain):
  """Reaching a goal that is seen in pictures, and named if there are several.

  Episodes start far from the goal that counts. -1 per step.
  """

  def __init__(
      self,
      *,
      maze_ctor: Callable[..., pointmaze.PointMaze] = pointmaze.PointMaze,
      goal_cells: Sequence[Optional[maze_lib.Cell]] = (None,),
      picture_size: int = 48,
  ):
    """Initializes the task.

    Args:
      maze_ctor: Makes the point maze of a `goal_cell`.
      goal_cells: `(row, column)` of each goal, one or two: the red square and
        the blue one. None for the maze's default.
      picture_size: Height and width of a picture in pixels.

    Raises:
      ValueError: If an argument is out of range.
    """
    if not 1 <= len(goal_cells) <= len(GOAL_COLORS):
      raise ValueError(
          f'`goal_cells` must have 1 to {len(GOAL_COLORS)} cells, got '
          f'{goal_cells}.'
      )
    self._tasks = [
        # Gin may bind the cell of a single goal.
        maze_ctor() if cell is None else maze_ctor(goal_cell=cell)
        for cell in goal_cells
    ]
    cells = [task.goal_cell for task in self._tasks]
    if len(set(cells)) < len(cells):
      raise ValueError(f'`goal_cells` must differ, got {cells}.')
    task = self._tasks[0]
    # A cell must be large enough to show its ball.
    smallest = 2 * max(task.maze.shape)
    arguments.check_range('picture_size', picture_size, smallest)
    self._set_constants(
        task.max_episode_steps, task.reward_scale, task.reward_bias
    )
    self._picture = Picture(task.maze, cells, picture_size)
    self._picture_shape = (picture_size, picture_size, 3)

  @property
  def parts(self):
    return (self, self._tasks[0])

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> DrawnMazeEnvironment:
    return self._make_environment(
        seed,
        functools.partial(
            pointmaze.PointMaze.make_environment, evaluation=evaluation
        ),
    )

  def make_data_environment(self, seed: int) -> DrawnMazeEnvironment:
    """Makes an environment that starts in any cell except the goal."""
    return self._make_environment(
        seed, pointmaze.PointMaze.make_data_environment
    )

  def make_controller(
      self, environment: domain.Environment
  ) -> domain.Controller:
    del environment
    return _StateController(self._tasks[0].make_controller)

  def make_data_controller(
      self, environment: domain.Environment
  ) -> domain.Controller:
    del environment
    return _StateController(self._tasks[0].make_data_controller)

  def observation_spec(self) -> Mapping[str, specs.Array]:
    return _observation_spec(self._picture_shape, len(self._tasks))

  def action_spec(self) -> specs.BoundedArray:
    return self._tasks[0].action_spec()

  @property
  def normalization(self) -> types.Normalization:
    """Statistics of uniform tokens; pictures have none."""
    mean: Dict[str, Optional[np.ndarray]] = {'picture': None}
    deviation: Dict[str, Optional[np.ndarray]] = {'picture': None}
    if len(self._tasks) > 1:
      size = len(VOCABULARY)
      shape = encode_instruction('red').shape
      mean['instruction'] = np.full(shape, (size - 1) / 2, np.float32)
      deviation['instruction'] = np.full(shape, size / 12**0.5, np.float32)
    return types.Normalization(mean, deviation)

  def never_succeeds_value(self, gamma: float) -> float:
    return self._tasks[0].never_succeeds_value(gamma)

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return self._tasks[0].value_range(gamma)

  def _make_environment(self, seed, make):
    environments = [make(task, seed) for task in self._tasks]
    return DrawnMazeEnvironment(environments, self._picture, seed)


def _observation_spec(picture_shape, num_goals) -> Mapping[str, specs.Array]:
  spec = {'picture': specs.Array(picture_shape, np.uint8, name='picture')}
  if num_goals > 1:
    shape = encode_instruction('red').shape
    spec['instruction'] = specs.BoundedArray(
        shape, np.float32, 0, len(VOCABULARY) - 1, name='instruction'
    )
  return spec
