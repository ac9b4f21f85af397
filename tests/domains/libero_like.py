"""A small gymnasium environment with the interface of LIBERO's tasks.

The actions move the hand; the task is to raise it to 0.3 m. Initial states
differ in the hand's initial position.
"""

import gymnasium
from gymnasium import spaces
import numpy as np

_NUM_INITIAL_STATES = 5
_HEIGHT = 0.3


class LiberoLike(gymnasium.Env):
  """Has the settings, observations and actions of `Libero-v0`."""

  def __init__(
      self,
      suite,
      task,
      *,
      initial_state,
      images,
      image_size,
      instruction,
  ):
    self._text = f'task {task} of {suite}'.encode()
    self._initial_state = initial_state
    self._image_size = image_size if images else None
    self._has_instruction = instruction
    self._place = np.zeros(3, np.float32)
    self.action_space = spaces.Box(-1.0, 1.0, (7,))
    self.observation_space = spaces.Dict({
        name: spaces.Box(0, 255, part.shape, np.uint8)
        if part.dtype == np.uint8
        else spaces.Box(-np.inf, np.inf, part.shape)
        for name, part in self._observe().items()
    })

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    index = self._initial_state
    if index < 0:
      index = self.np_random.integers(_NUM_INITIAL_STATES)
    self._place = np.array([0.1 * index, 0.0, 0.0], np.float32)
    return self._observe(), {'success': False}

  def step(self, action):
    self._place = self._place + 0.1 * action[:3]
    success = bool(self._place[2] >= _HEIGHT)
    return (
        self._observe(), float(success), success, False, {'success': success}
    )

  def _observe(self):
    parts = {
        'joint_states': np.zeros(7, np.float32),
        'ee_states': np.append(self._place, np.zeros(3, np.float32)),
        'gripper_states': np.zeros(2, np.float32),
    }
    size = self._image_size
    if size is None:
      parts['physics'] = np.zeros(46, np.float32)
    else:
      brightness = int(np.clip(100 * (1 + self._place[0]), 0, 255))
      image = np.full([size, size, 3], brightness, np.uint8)
      parts.update(agentview_rgb=image, eye_in_hand_rgb=255 - image)
    if self._has_instruction:
      padded = self._text.ljust(128, b'\0')
      parts['instruction'] = np.frombuffer(padded, np.uint8)
    return parts


gymnasium.register('LiberoLike-v0', LiberoLike)
