"""An environment with CALVIN's specs and settings, but without physics.

`calvin_test` serves it in place of CALVIN. Each of the first four actions that
is not 0 toggles a sub-task.
"""

import gymnasium
import numpy as np

_SHAPES = {
    'robot': (15,),
    'scene': (24,),
    'static': (100, 100, 3),
    'gripper': (100, 100, 3),
}


class CalvinTable(gymnasium.Env):
  """Shows solved sub-tasks in `scene`; draws everything else at reset."""

  def __init__(self, observations='robot,static,gripper'):
    self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,))
    self.observation_space = gymnasium.spaces.Dict({
        name: gymnasium.spaces.Box(-np.inf, np.inf, _SHAPES[name])
        if name in ('robot', 'scene')
        else gymnasium.spaces.Box(0, 255, _SHAPES[name], np.uint8)
        for name in observations.split(',')
    })

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    self._solved = np.zeros(4, np.bool_)
    self._drawn = self.np_random.uniform(0, 255)
    return self._observe(), {}

  def step(self, action):
    changes = np.sign(np.round(action[:4]))
    self._solved = np.where(changes, changes > 0, self._solved)
    is_success = bool(self._solved.all())
    reward = float(self._solved.sum())
    return self._observe(), reward, is_success, False, {'success': is_success}

  def _observe(self):
    observation = {
        name: np.full(space.shape, self._drawn, space.dtype)
        for name, space in self.observation_space.spaces.items()
    }
    if 'scene' in observation:
      observation['scene'][:4] = self._solved
    return observation


gymnasium.register('Calvin-v0', entry_point=CalvinTable)
