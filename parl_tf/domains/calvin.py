"""CALVIN: an arm opens a drawer, slides a door and turns on two lights.

The environment is scene D of CALVIN (Mees et al., 2022, arXiv:2112.03227). It
runs in a separate process with its own Python environment; see
`examples/calvin`. The raw reward is the number of sub-tasks that are currently
solved. With the paper's bias of -4, the reward is 0 while all are solved.
"""

from typing import Any, Dict, Optional, Sequence, Tuple

import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import calvin_script
from parl_tf.domains import domain
from parl_tf.domains import remote
from parl_tf.domains import value_ranges

SUB_TASKS = (
    'open_drawer',
    'turn_on_lightbulb',
    'move_slider_left',
    'turn_on_led',
)
"""The names of the sub-tasks."""
_IMAGE_SIZE = 100  # pixels
_OBSERVATIONS = ('robot', 'scene', 'static', 'gripper')


@gin.configurable
class Calvin(remote.Remote):
  """Sub-tasks in any order, by default four, each worth a score of 25.

  Observations are dicts: `robot` `[15]` and `scene` `[24]` float32, and images
  of the `static` and the `gripper` camera `[100, 100, 3]` uint8. Actions `[7]`:
  changes of the gripper's position (3) and orientation (3), and whether it
  opens. A step takes 1/30 s.

  A script records data, play without a goal, for the sub-tasks of
  `calvin_script.SUB_TASKS`.
  """

  def __init__(
      self,
      address: str = gin.REQUIRED,
      *,
      observations: Sequence[str] = ('robot', 'static', 'gripper'),
      sub_tasks: Sequence[str] = SUB_TASKS,
      image_size: int = _IMAGE_SIZE,
      action_repeat: int = 1,
      max_episode_steps: int = 360,
      reward_scale: float = 1.0,
      reward_bias: float = -4.0,
      **options: Any,
  ):
    """Connects to the server and reads its specs.

    Args:
      address: `host:port` of the server.
      observations: Parts of the observation to include. Images are rendered in
        software, which takes most of a step's time.
      sub_tasks: The sub-tasks that count; the episode ends when all are solved.
      image_size: Height and width of the images in pixels.
      action_repeat: Number of the table's steps for which each action is
        repeated. The reward is that of the last one.
      max_episode_steps: Environment steps, that is actions, before the timeout.
      reward_scale: Factor on the raw reward, 0 to the number of sub-tasks.
      reward_bias: Added to the scaled reward.
      **options: Arguments of `Remote`.

    Raises:
      ConnectionError: If no server can be reached in time.
      RuntimeError: If the server answers with an error.
      ValueError: If an argument is out of range.
    """
    if not observations:
      raise ValueError('`observations` must not be empty.')
    for name in observations:
      arguments.check_choice('observations', name, _OBSERVATIONS)
    if not sub_tasks:
      raise ValueError('`sub_tasks` must not be empty.')
    for name in sub_tasks:
      arguments.check_choice('sub_tasks', name, SUB_TASKS)
    arguments.check_range('image_size', image_size, 1)
    arguments.check_range('action_repeat', action_repeat, 1)
    self._sub_tasks = tuple(sub_tasks)
    self._table_repeat = action_repeat
    super().__init__(
        address,
        max_episode_steps=max_episode_steps,
        settings=_settings(observations, sub_tasks, image_size, action_repeat),
        reward_scale=reward_scale,
        reward_bias=reward_bias,
        **options,
    )

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.of_rewards(
        0, len(self._sub_tasks), self.reward_scale, self.reward_bias, gamma
    )

  def score(self, episodes: Sequence[types.Episode]) -> float:
    """Returns the mean percentage of the most sub-tasks solved at once.

    Raises:
      ValueError: If there are no episodes.
    """
    solved = domain.mean_over(episodes, lambda x: np.max(x.reward))
    return 100.0 / len(self._sub_tasks) * solved

  def make_controller(
      self, environment: domain.Environment
  ) -> Optional[domain.Controller]:
    return self._make_script(environment, plays=False)

  def make_data_controller(
      self, environment: domain.Environment
  ) -> Optional[domain.Controller]:
    return self._make_script(environment, plays=True)

  def _make_script(self, environment, plays):
    """Makes a script, or returns None if it cannot solve or see the task."""
    if not set(self._sub_tasks) <= set(calvin_script.SUB_TASKS):
      return None
    if 'robot' not in environment.observation_spec():
      return None
    return calvin_script.Script(
        self._sub_tasks, plays=plays, action_repeat=self._table_repeat
    )


def _settings(observations, sub_tasks, image_size, action_repeat):
  """Returns a world's settings; servers of earlier versions know the first."""
  settings: Dict[str, Any] = {'observations': ','.join(observations)}
  if tuple(sub_tasks) != SUB_TASKS:
    settings['sub_tasks'] = ','.join(sub_tasks)
  if image_size != _IMAGE_SIZE:
    settings['image_size'] = np.int64(image_size)
  if action_repeat != 1:
    settings['action_repeat'] = np.int64(action_repeat)
  return settings
