"""A robot without motion, which the example's server can serve."""

import os

import gymnasium
import numpy as np

ID = 'ServedRobot-v0'
FILE = 'SERVED_ROBOT_FILE'
"""Environment variable with the file that lists what happens."""


class ServedRobot(gymnasium.Env):
  """Writes its calls to a file."""

  action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
  observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    return np.zeros(1, np.float32), {'success': False}

  def step(self, action):
    _write('step')
    return np.zeros(1, np.float32), 0.0, False, False, {'success': False}

  def stop_robot(self):
    _write('stop_robot')

  def close(self):
    _write('close')


def _write(call):
  with open(os.environ[FILE], 'a', encoding='utf-8') as file:
    file.write(f'{call}\n')


gymnasium.register(ID, entry_point=ServedRobot)
