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
_STATES = {'robot': 15, 'scene': 24}
_CAMERAS = ('static', 'gripper')
_IMAGE_SIZE = 100  # Pixels; rendered at 200 (static) and 84 (gripper).
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
  """Four sub-tasks in any order, with 1/30 s per step.

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

  Attributes:
    table: CALVIN's own environment.
  """

  def __init__(
      self,
      observations: str = 'robot,static,gripper',
      seed: Optional[int] = None,
  ):
    """Initializes the table.

    Args:
      observations: Comma-separated names. Rendering images takes most of the
        time of a step.
      seed: Seed of the first reset, if that reset has none.

    Raises:
      ValueError: If `observations` contains an unknown name or is empty.
    """
    names, known = observations.split(','), (*_STATES, *_CAMERAS)
    if not set(names) <= set(known):
      raise ValueError(
          f'`observations` must be a comma-separated subset of {known}, got'
          f' {observations!r}.'
      )
    self.observation_space = gymnasium.spaces.Dict(
        {name: _space(name) for name in names}
    )
    self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,))
    self.table = _make_table([name for name in names if name in _CAMERAS])
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
    observation, _, _, info = self.table.step(action)
    solved = self._tasks.get_task_info_for_set(
        self._start, info, set(SUB_TASKS)
    )
    is_success = len(solved) == len(SUB_TASKS)
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
            else _resize(observation['rgb_obs'][f'rgb_{name}'])
        )
        for name in self.observation_space.spaces
    }


def _make_table(cameras):
  """Returns CALVIN's environment as configured for collecting its data.

  Uses conf/config_data_collection.yaml with scene D.

  Args:
    cameras: Names of the cameras to render.
  """
  root = OmegaConf.create({
      'data_path': 'data',
      'use_vr': False,
      'scene': _load('scene/calvin_scene_D'),
      'robot': OmegaConf.merge(
          _load('robot/panda'), _load('robot/panda_longer_finger')
      ),
      'cameras': {name: _load(f'cameras/cameras/{name}') for name in cameras},
      'env': _load('env/play_table_env'),
  })
  # Rendered in software, because EGL needs a graphics driver.
  return hydra.utils.instantiate(
      root.env, _target_=f'{__name__}.Table', use_egl=False, use_scene_info=True
  )


def _load(name):
  return OmegaConf.load(_FILES / f'{name}.yaml')


def _resize(image):
  # Bilinear, which at half the size is the mean of 2 x 2 pixels.
  return cv2.resize(np.uint8(image), (_IMAGE_SIZE, _IMAGE_SIZE))


def _space(name):
  if name in _STATES:
    return gymnasium.spaces.Box(-np.inf, np.inf, (_STATES[name],))
  shape = (_IMAGE_SIZE, _IMAGE_SIZE, 3)
  return gymnasium.spaces.Box(0, 255, shape, np.uint8)


gymnasium.register('Calvin-v0', entry_point=Calvin)
