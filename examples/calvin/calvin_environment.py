"""CALVIN's table, four things to be done on it, as a gymnasium environment.

The environment is that of CALVIN (Mees et al., 2022, arXiv:2112.03227), its
scene D, from https://github.com/mees/calvin_env: a Panda arm at a table with a
drawer, a sliding door, a switch that lights a bulb, a button that lights a LED,
and three blocks. Importing this registers it as `Calvin-v0`; README.md beside
it tells how it is served.
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

# As CALVIN names them. Its tasks are changes since the start of the episode: a
# drawer drawn by 0.12 m, a door moved by 0.15 m, a light that was off.
SUB_TASKS = (
    'open_drawer',
    'turn_on_lightbulb',
    'move_slider_left',
    'turn_on_led',
)
_STATES = {'robot': 15, 'scene': 24}
_CAMERAS = ('static', 'gripper')
_PICTURE_SIZE = 100  # Pixels; drawn with 200 (static) and 84 (gripper).
_FILES = pathlib.Path(play_table_env.__file__).parents[2] / 'conf'


class Table(play_table_env.PlayTableSimEnv):
  """CALVIN's environment, of which several may be in one process."""

  _loading = threading.Lock()

  def load(self):
    with Table._loading:
      # Some of its calls name no simulation; to the module `pybullet`, that is
      # the first one of the process, which may be another table's or gone.
      robot.p = self.p
      super().load()

  def close(self):
    super().close()
    # Else it would close once more when it is collected, and by then another
    # table may have its number.
    self.ownsPhysicsClient = False


class Calvin(gymnasium.Env):
  """Four sub-tasks in any order, 1/30 s a step.

  Observations, as chosen:
    robot: `[15]` float32; place (3, metres) and Euler angles (3, radians) of
      the gripper, its width (metres), angles of the arm (7), and whether the
      gripper was last told to open (1) or to close (-1).
    scene: `[24]` float32; door, drawer, button and switch (metres), bulb and
      LED (1: on), place and Euler angles of each block.
    static, gripper: `[100, 100, 3]` uint8, the pictures of both cameras.

  Actions `[7]` in [-1, 1]: change of the gripper's place (3, times 0.02 m) and
  Euler angles (3, times 0.05 rad); above 0 the gripper opens, else it closes.
  The reward of a step is the number of sub-tasks that are solved after it; the
  episode ends when all are. Blocks lie where the seed says.

  Attributes:
    table: CALVIN's own environment.
  """

  def __init__(
      self,
      observations: str = 'robot,static,gripper',
      seed: Optional[int] = None,
  ):
    """Makes a table.

    Args:
      observations: Names joined by commas. Pictures take most of the time.
      seed: Of the first reset, if that has none of its own.

    Raises:
      ValueError: If `observations` are none of those above.
    """
    names, known = observations.split(','), (*_STATES, *_CAMERAS)
    if not set(names) <= set(known):
      raise ValueError(
          f'`observations` must be some of {known}, joined by commas, got'
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
    # Made anew, for CALVIN's own reset leaves contacts behind, and a LED that
    # was on goes out at the next press of the button instead of on.
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
  """Returns CALVIN's environment, of the parts that its data were made with.

  They are those of conf/config_data_collection.yaml, with scene D.

  Args:
    cameras: Names of those that are drawn.
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
  # Drawn in software, for EGL needs a graphics driver.
  return hydra.utils.instantiate(
      root.env, _target_=f'{__name__}.Table', use_egl=False, use_scene_info=True
  )


def _load(name):
  return OmegaConf.load(_FILES / f'{name}.yaml')


def _resize(picture):
  # Bilinear, which from twice the size is the mean of 2 x 2 pixels.
  return cv2.resize(np.uint8(picture), (_PICTURE_SIZE, _PICTURE_SIZE))


def _space(name):
  if name in _STATES:
    return gymnasium.spaces.Box(-np.inf, np.inf, (_STATES[name],))
  shape = (_PICTURE_SIZE, _PICTURE_SIZE, 3)
  return gymnasium.spaces.Box(0, 255, shape, np.uint8)


gymnasium.register('Calvin-v0', entry_point=Calvin)
