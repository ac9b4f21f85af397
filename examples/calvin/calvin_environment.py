"""CALVIN's table with four sub-tasks, as a gymnasium environment.

The environment is scene D of CALVIN (Mees et al., 2022, arXiv:2112.03227), from
https://github.com/mees/calvin_env: a Panda arm at a table with a drawer, a
sliding door, a switch that controls a bulb, a button that controls an LED, and
three blocks. Importing this module registers it as `Calvin-v0`. README.md in
this directory explains how to serve it.
"""

import pathlib
import threading
from typing import Optional

from calvin_env.envs import play_table_env
from calvin_env.robot import robot
import cv2
import gymnasium
import hydra
import numpy as np
from omegaconf import OmegaConf

# CALVIN's names. Its tasks are changes since the start of the episode: opening
# the drawer by 0.12 m, moving the door by 0.15 m, turning on a light.
SUB_TASKS = (
    'open_drawer',
    'turn_on_lightbulb',
    'move_slider_left',
    'turn_on_led',
)
_ALL = ','.join(SUB_TASKS)
_STATES = {'robot': 15, 'scene': 24}
_CAMERAS = ('static', 'gripper')
# Rendered pixels per pixel of an image, as in CALVIN's own sizes, 200 and 84.
_RENDERED = {'static': 2.0, 'gripper': 0.84}
_FILES = pathlib.Path(play_table_env.__file__).parents[2] / 'conf'


class Table(play_table_env.PlayTableSimEnv):
  """CALVIN's environment, made safe for several instances in one process."""

  _loading = threading.Lock()

  def load(self):
    with Table._loading:
      # Some of CALVIN's calls do not specify a simulation. `pybullet` then uses
      # the first one of the process, which may be another one or closed.
      robot.p = self.p
      super().load()

  def close(self):
    super().close()
    # Otherwise garbage collection would close it again, and by then another
    # table may have the same id.
    self.ownsPhysicsClient = False


class Calvin(gymnasium.Env):
  """Sub-tasks in any order, with 1/30 s per step.

  Observations, as selected:
    robot: `[15]` float32; position (3, metres) and Euler angles (3, radians) of
      the gripper, its width (metres), joint angles of the arm (7), and the last
      gripper command, 1 to open or -1 to close.
    scene: `[24]` float32; door, drawer, button and switch (metres), bulb and
      LED (1 if on), position and Euler angles of each block.
    static, gripper: `[100, 100, 3]` uint8, the images of both cameras.

  Actions `[7]` in [-1, 1]: change of the gripper's position (3, times 0.02 m)
  and Euler angles (3, times 0.05 rad); the gripper opens above 0 and closes
  otherwise. The reward of a step is the number of sub-tasks solved after it.
  The episode ends when all are solved. The seed determines the positions of the
  blocks.

  A world may have fewer sub-tasks, smaller images, and actions that are
  repeated; then images are rendered after the last repetition only.

  Attributes:
    table: CALVIN's own environment.
  """

  def __init__(
      self,
      observations: str = 'robot,static,gripper',
      seed: Optional[int] = None,
      sub_tasks: str = _ALL,
      image_size: int = 100,
      action_repeat: int = 1,
  ):
    """Initializes the table.

    Args:
      observations: Comma-separated names. Rendering images takes most of the
        time of a step.
      seed: Seed of the first reset, if that reset has none.
      sub_tasks: Comma-separated names of the sub-tasks that count.
      image_size: Height and width of the images in pixels.
      action_repeat: Number of times that each action is repeated.

    Raises:
      ValueError: If `observations` or `sub_tasks` contains an unknown name or
        is empty, or a number is not positive.
    """
    names = _names('observations', observations, (*_STATES, *_CAMERAS))
    self._sub_tasks = set(_names('sub_tasks', sub_tasks, SUB_TASKS))
    if min(image_size, action_repeat) < 1:
      raise ValueError(
          '`image_size` and `action_repeat` must be positive, got'
          f' {image_size} and {action_repeat}.'
      )
    self._image_size = int(image_size)
    self._action_repeat = int(action_repeat)
    self.observation_space = gymnasium.spaces.Dict(
        {name: _space(name, self._image_size) for name in names}
    )
    self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,))
    cameras = [name for name in names if name in _CAMERAS]
    self.table = _make_table(cameras, self._image_size)
    self._tasks = hydra.utils.instantiate(_load('tasks/new_playtable_tasks'))
    self._start = None
    super().reset(seed=seed)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    # Creates a new table: CALVIN's own reset leaves contacts behind, and an LED
    # that was on turns off at the next press of the button.
    self.table.robot.gripper_action = 1
    self.table.scene.np_random = self.np_random
    self.table.load()
    observation = self.table.reset()
    self._start = self.table.get_info()
    return self._select(observation), {'success': False}

  def step(self, action):
    action = np.array(action, np.float64)
    action[-1] = 1.0 if action[-1] > 0 else -1.0
    cameras = self.table.cameras
    self.table.cameras = []  # Nothing is rendered between repetitions.
    try:
      for _ in range(self._action_repeat - 1):
        self.table.step(action)
    finally:
      self.table.cameras = cameras
    observation, _, _, info = self.table.step(action)
    solved = self._tasks.get_task_info_for_set(
        self._start, info, self._sub_tasks
    )
    is_success = solved == self._sub_tasks
    info = {'success': is_success, 'solved': sorted(solved)}
    observation = self._select(observation)
    return observation, float(len(solved)), is_success, False, info

  def close(self):
    self.table.close()

  def _select(self, observation):
    return {
        name: (
            np.float32(observation[f'{name}_obs'])
            if name in _STATES
            else self._resize(observation['rgb_obs'][f'rgb_{name}'])
        )
        for name in self.observation_space.spaces
    }

  def _resize(self, image):
    # Bilinear, which at half the size is the mean of 2 x 2 pixels.
    return cv2.resize(np.uint8(image), (self._image_size, self._image_size))


def _names(argument, text, known):
  """Returns the names in a text; an unknown one is an error."""
  names = text.split(',')
  if not set(names) <= set(known):
    raise ValueError(
        f'`{argument}` must be a comma-separated subset of {known}, got'
        f' {text!r}.'
    )
  return names


def _make_table(cameras, image_size):
  """Returns CALVIN's environment as configured for collecting its data.

  Uses conf/config_data_collection.yaml with scene D.

  Args:
    cameras: Names of the cameras to render.
    image_size: Height and width of the resized images in pixels.
  """
  root = OmegaConf.create({
      'data_path': 'data',
      'use_vr': False,
      'scene': _load('scene/calvin_scene_D'),
      'robot': OmegaConf.merge(
          _load('robot/panda'), _load('robot/panda_longer_finger')
      ),
      'cameras': {name: _camera(name, image_size) for name in cameras},
      'env': _load('env/play_table_env'),
  })
  # Rendered in software, because EGL needs a graphics driver.
  return hydra.utils.instantiate(
      root.env, _target_=f'{__name__}.Table', use_egl=False, use_scene_info=True
  )


def _load(name):
  return OmegaConf.load(_FILES / f'{name}.yaml')


def _camera(name, image_size):
  size = round(_RENDERED[name] * image_size)
  return {**_load(f'cameras/cameras/{name}'), 'width': size, 'height': size}


def _space(name, image_size):
  if name in _STATES:
    return gymnasium.spaces.Box(-np.inf, np.inf, (_STATES[name],))
  shape = (image_size, image_size, 3)
  return gymnasium.spaces.Box(0, 255, shape, np.uint8)


gymnasium.register('Calvin-v0', entry_point=Calvin)
