"""An environment with CALVIN's specs and settings, but without physics.

`calvin_test` serves it in place of CALVIN. Each of the first four actions that
is not 0 toggles a sub-task, and moves the gripper without resistance.
"""

import gymnasium
import numpy as np

_SUB_TASKS = (
    'open_drawer', 'turn_on_lightbulb', 'move_slider_left', 'turn_on_led'
)
_ALL = ','.join(_SUB_TASKS)
_STATES = {'robot': (15,), 'scene': (24,)}


class CalvinTable(gymnasium.Env):
  """Shows solved sub-tasks in `scene`; draws everything else at reset."""

  def __init__(
      self,
      observations='robot,static,gripper',
      sub_tasks=_ALL,
      image_size=100,
      action_repeat=1,
  ):
    chosen = sub_tasks.split(',')
    self._is_chosen = np.array([name in chosen for name in _SUB_TASKS])
    self._action_repeat = action_repeat
    self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,))
    image = (image_size, image_size, 3)
    self.observation_space = gymnasium.spaces.Dict({
        name: gymnasium.spaces.Box(-np.inf, np.inf, _STATES[name])
        if name in _STATES
        else gymnasium.spaces.Box(0, 255, image, np.uint8)
        for name in observations.split(',')
    })

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    self._solved = np.zeros(4, np.bool_)
    self._drawn = self.np_random.uniform(0, 255)
    self._place = np.array([0.03, -0.23, 0.57])  # Where CALVIN's robot starts.
    return self._observe(), {}

  def step(self, action):
    changes = np.sign(np.round(action[:4]))
    self._solved = np.where(changes, changes > 0, self._solved)
    self._place = self._place + 0.02 * self._action_repeat * action[:3]
    solved = self._solved[self._is_chosen]
    is_success = bool(solved.all())
    reward = float(solved.sum())
    return self._observe(), reward, is_success, False, {'success': is_success}

  def _observe(self):
    observation = {
        name: np.full(space.shape, self._drawn, space.dtype)
        for name, space in self.observation_space.spaces.items()
    }
    if 'robot' in observation:
      observation['robot'][:3] = self._place
    if 'scene' in observation:
      observation['scene'][:4] = self._solved
    return observation


gymnasium.register('Calvin-v0', entry_point=CalvinTable)
