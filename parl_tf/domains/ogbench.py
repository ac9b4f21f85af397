"""OGBench manipulation: an arm moves cubes, sliding objects and buttons.

The environments are `{cube,scene,puzzle}-*-singletask-task*` of OGBench (Park
et al., 2025, arXiv:2410.20092): an arm with a gripper, five actions, 0.05 s per
step. The raw reward is minus the number of objects that are not in their goal
state. As in OGBench, it is that of the state before the action, so an episode
ends with the first action after success. Unlike in OGBench, an action may be
repeated for several steps, and a reset clears all simulator state. With images
they are OGBench's `visual-*` environments.
"""

import functools
from typing import Any, Callable, Mapping, Optional, Tuple, Type

from dm_env import specs
import gin
import numpy as np

from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import ogbench_oracles
from parl_tf.domains import ogbench_play
from parl_tf.domains import ogbench_scene
from parl_tf.domains import play
from parl_tf.domains import value_ranges

_TASKS = range(1, 6)
_NUM_CUBES = {'single': 1, 'double': 2, 'triple': 3, 'quadruple': 4}
_NUM_BUTTONS = {'3x3': 9, '4x4': 16, '4x5': 20, '4x6': 24}
# Sizes in OGBench's observations; a slide is a drawer or a window.
ARM_SIZE, CUBE_SIZE, BUTTON_SIZE, SLIDE_SIZE = 19, 9, 4, 2
PLAY_STEPS = 1_000  # Length of a play episode in steps of 0.05 s; OGBench's.

_ACTION_SPEC = specs.BoundedArray((5,), np.float32, -1.0, 1.0, name='action')


class TableEnvironment(gymnasium_adapter.GymnasiumEnvironment):
  """A manipulation task as a `dm_env` environment.

  Observations start with 19 numbers: joint angles (6) and joint velocities (6)
  of the arm, position of the gripper (3), cosine and sine of its yaw, its
  opening and its contact. The objects follow. Gripper and cube positions are in
  decimetres from the centre of the table; other positions and the opening have
  OGBench's scales. Actions `[5]`: changes of the gripper's position (3, at most
  0.05 m), yaw (at most 0.3 rad) and opening. Each 0.05 s step has a raw reward.

  With images, the observation is a picture `[size, size, 3]` uint8 of the table
  instead, in which the arm is nearly transparent.
  """

  def __init__(
      self,
      scene: Any,
      *,
      image_size: Optional[int] = None,
      image_interval: int = 1,
      **options: Any,
  ):
    """Takes ownership of `scene`.

    Args:
      scene: OGBench environment.
      image_size: Height and width of the picture; None observes the state.
      image_interval: Steps from one picture to the next; in between, the last
        one is observed.
      **options: Arguments of `GymnasiumEnvironment`.
    """
    self._image_size = image_size
    self._image_interval = image_interval
    self._colors = ogbench_scene.colors(scene.model)
    super().__init__(scene, **options)

  def reset(self):
    time_step = super().reset()
    scene = self.gymnasium_environment
    ogbench_scene.forget(scene.model, scene.data)
    scene.pre_step()
    scene.post_step()
    self._colors = ogbench_scene.colors(scene.model)
    if self._image_size:
      self._image = ogbench_scene.draw(scene)
      return time_step._replace(observation=self._image.copy())
    return time_step._replace(
        observation=scene.compute_observation().astype(np.float32)
    )

  def step(self, action):
    time_step = super().step(action)
    self._colors = ogbench_scene.colors(self.gymnasium_environment.model)
    if not self._image_size or time_step.first():
      return time_step
    if self._num_steps % self._image_interval == 0 or time_step.last():
      self._image = ogbench_scene.draw(self.gymnasium_environment)
    return time_step._replace(observation=self._image.copy())

  def observation_spec(self):
    if self._image_size:
      return ogbench_scene.image_spec(self._image_size)
    return super().observation_spec()

  def render(self) -> np.ndarray:
    """Returns a picture in the colours of the environment's own last step."""
    ogbench_scene.restore_colors(self.gymnasium_environment.model, self._colors)
    return super().render()

  def info(self) -> Mapping[str, np.ndarray]:
    data = self.gymnasium_environment.data
    return {
        'qpos': data.qpos.astype(np.float32),
        'qvel': data.qvel.astype(np.float32),
    }

  def close(self) -> None:
    """Does nothing; garbage collection releases the renderer."""


class ButtonEnvironment(TableEnvironment):
  """A task with buttons, whose states are not part of the physics state."""

  def step(self, action):
    # Sets locks and colours in the model, which other environments also change.
    self.gymnasium_environment._apply_button_states()  # pylint: disable=protected-access
    return super().step(action)

  def info(self) -> Mapping[str, np.ndarray]:
    states = self.gymnasium_environment._cur_button_states  # pylint: disable=protected-access
    return {**super().info(), 'button_states': states.astype(np.float32)}


class TableTask(domain.Domain):
  """Base class of the manipulation tasks; subclasses define the scene."""

  _environment_class: Type[TableEnvironment]
  _controller_class: Type[ogbench_oracles.OracleController]
  _judge: Callable[[Any], play.Outcome]
  _is_healthy: Callable[[Any], bool] = staticmethod(lambda scene: True)

  def __init__(
      self,
      kind: str,
      observation_size: int,
      num_things: int,
      *,
      task: int,
      max_episode_steps: int,
      action_repeat: int = 1,
      reward_scale: float = 1.0,
      reward_bias: float = 0.0,
      oracle_min_norm: float = 0.4,
      data_speed: float = 1.0,
      image_size: Optional[int] = None,
      fast_images: bool = False,
  ):
    """Initializes the task.

    Args:
      kind: OGBench's name of the scene, such as `cube-single`.
      observation_size: Size of the observation vector.
      num_things: Number of objects that have a goal state. The raw reward is
        minus the number that are not in it.
      task: OGBench's task number, 1 to 5, which determines the initial and the
        goal state of the objects.
      max_episode_steps: Environment steps before the timeout.
      action_repeat: Number of 0.05 s steps for which each action is repeated.
      reward_scale: Factor on the raw reward, which is summed over the repeated
        steps.
      reward_bias: Added to the scaled reward.
      oracle_min_norm: Minimum length in metres of the position errors to which
        the controllers react; shorter errors are lengthened. OGBench's value of
        0.4 saturates almost all actions.
      data_speed: Factor in (0, 1] on the changes of position and yaw in
        recorded data.
      image_size: Height and width in pixels of the picture that is observed,
        64 in OGBench; None observes the state.
      fast_images: Whether to draw without anti-aliasing and with coarser
        shadows than OGBench, about twice as fast on a CPU.

    Raises:
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('task', task, _TASKS)
    arguments.check_range('action_repeat', action_repeat, 1)
    arguments.check_positive('oracle_min_norm', oracle_min_norm)
    arguments.check_positive('data_speed', data_speed)
    arguments.check_range('data_speed', data_speed, 0.0, 1.0)
    if image_size is not None:
      arguments.check_range('image_size', image_size, 1)
    self._set_constants(max_episode_steps, reward_scale, reward_bias)
    self._observation_size = observation_size
    self._num_things = num_things
    self._action_repeat = action_repeat
    self._oracle_min_norm = oracle_min_norm
    self._data_speed = data_speed
    self._image_size = image_size
    self._make_scene = functools.partial(
        ogbench_scene.make, kind, task, image_size, fast_images
    )
    self.recorded_task: int = task - 1

  def make_environment(self, seed: int, evaluation: bool) -> TableEnvironment:
    del evaluation  # The task determines the initial state of both.
    return self._environment_class(
        self._make_scene(),
        image_size=self._image_size,
        seed=seed,
        action_repeat=self._action_repeat,
        max_episode_steps=self.max_episode_steps,
    )

  def make_controller(
      self, environment: TableEnvironment
  ) -> ogbench_oracles.OracleController:
    del environment  # Passed to each call of `action`.
    return self._controller_class(self._oracle_min_norm)

  def make_data_controller(
      self, environment: TableEnvironment
  ) -> ogbench_oracles.OracleController:
    del environment
    return self._controller_class(self._oracle_min_norm, self._data_speed)

  def make_play_environment(self, seed: int) -> play.PlayEnvironment:
    """Makes an environment that starts with all objects in random states."""
    scene = self._make_scene(is_play=True)
    environment = self._environment_class(
        scene,
        image_size=self._image_size,
        image_interval=self._action_repeat,
        seed=seed,
        max_episode_steps=self._action_repeat
        * max(1, PLAY_STEPS // self._action_repeat),
    )
    return play.PlayEnvironment(
        environment,
        functools.partial(self._judge, scene),
        task=self.recorded_task,
        action_repeat=self._action_repeat,
        judges_first=True,
        is_healthy=functools.partial(self._is_healthy, scene),
    )

  def make_play_controller(
      self, environment: play.PlayEnvironment
  ) -> ogbench_play.PlayController:
    del environment
    return ogbench_play.PlayController(
        self._oracle_min_norm,
        self._data_speed,
        action_repeat=self._action_repeat,
    )

  def observation_spec(self) -> specs.Array:
    if self._image_size:
      return ogbench_scene.image_spec(self._image_size)
    return specs.Array((self._observation_size,), np.float32, 'observation')

  def action_spec(self) -> specs.BoundedArray:
    return _ACTION_SPEC

  def value_range(self, gamma: float) -> Tuple[float, float]:
    wrong = self._num_things * self._action_repeat
    return value_ranges.of_rewards(
        -wrong, 0, self.reward_scale, self.reward_bias, gamma
    )


@gin.configurable
class Cube(TableTask):
  """Carrying cubes to fixed positions; misplaced cubes cost a reward of 1 each.

  Each cube contributes its position (3), quaternion (4), and cosine and sine of
  its yaw to the observation.
  """

  _environment_class = TableEnvironment
  _controller_class = ogbench_oracles.CubeController
  _judge = staticmethod(ogbench_play.judge_cubes)

  def __init__(
      self,
      *,
      size: str = 'single',
      task: int = 2,
      max_episode_steps: int = 200,
      **options: Any,
  ):
    """Initializes the task.

    Args:
      size: `single`, `double`, `triple` or `quadruple`.
      task: OGBench's task number, 1 to 5.
      max_episode_steps: Environment steps before the timeout. OGBench uses 200
        for one cube, 500 for two, and 1,000 for more.
      **options: Arguments of `TableTask`.

    Raises:
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('size', size, _NUM_CUBES)
    self._num_cubes = _NUM_CUBES[size]
    super().__init__(
        f'cube-{size}',
        ARM_SIZE + CUBE_SIZE * self._num_cubes,
        self._num_cubes,
        task=task,
        max_episode_steps=max_episode_steps,
        **options,
    )

  def never_succeeds_value(self, gamma: float) -> Optional[float]:
    """Returns the return of one cube never placed; None for several cubes."""
    if self._num_cubes > 1:
      return None
    reward = self.reward_bias - self.reward_scale * self._action_repeat
    return reward / (1.0 - gamma)


@gin.configurable
class Scene(TableTask):
  """Arranging a cube, a drawer, a window and the buttons that lock them.

  The observation contains the entries of `Cube` for the cube; state (one-hot,
  2), position and velocity for each of the two buttons; and position and
  velocity for drawer and window. In state 0, the first button locks the drawer,
  the second the window. Each of the five objects in a wrong state costs 1.
  """

  _environment_class: Type[TableEnvironment] = ButtonEnvironment
  _controller_class = ogbench_oracles.SceneController
  _judge = staticmethod(ogbench_play.judge_scene)
  _is_healthy = staticmethod(ogbench_play.is_cube_in_view)

  def __init__(
      self, *, task: int = 2, max_episode_steps: int = 750, **options: Any
  ):
    """Initializes the task.

    Args:
      task: OGBench's task number, 1 to 5: open, unlock and lock, rearrange, put
        into the drawer, rearrange and put into the drawer.
      max_episode_steps: Environment steps before the timeout.
      **options: Arguments of `TableTask`.

    Raises:
      ValueError: If an argument is out of range.
    """
    super().__init__(
        'scene',
        ARM_SIZE + CUBE_SIZE + 2 * BUTTON_SIZE + 2 * SLIDE_SIZE,
        5,  # The cube, two buttons, drawer and window.
        task=task,
        max_episode_steps=max_episode_steps,
        **options,
    )


@gin.configurable
class Puzzle(TableTask):
  """Lights Out: pressing a button toggles it and its neighbours.

  Each button contributes its state (one-hot, 2), position and velocity to the
  observation. The raw reward is minus the number of buttons in a wrong state.
  """

  _environment_class: Type[TableEnvironment] = ButtonEnvironment
  _controller_class = ogbench_oracles.PuzzleController
  _judge = staticmethod(ogbench_play.judge_puzzle)

  def __init__(
      self,
      *,
      size: str = '3x3',
      task: int = 4,
      max_episode_steps: int = 500,
      **options: Any,
  ):
    """Initializes the task.

    Args:
      size: `3x3`, `4x4`, `4x5` or `4x6`.
      task: OGBench's task number, 1 to 5.
      max_episode_steps: Environment steps before the timeout. OGBench uses 500
        for `3x3` and `4x4`, and 1,000 for the others.
      **options: Arguments of `TableTask`.

    Raises:
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('size', size, _NUM_BUTTONS)
    self._num_buttons = _NUM_BUTTONS[size]
    super().__init__(
        f'puzzle-{size}',
        ARM_SIZE + BUTTON_SIZE * self._num_buttons,
        self._num_buttons,
        task=task,
        max_episode_steps=max_episode_steps,
        **options,
    )
