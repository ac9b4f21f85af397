"""CALVIN: an arm opens a drawer, slides a door and turns on two lights.

The environment is scene D of CALVIN (Mees et al., 2022, arXiv:2112.03227). It
runs in a separate process with its own Python environment; see
`examples/calvin`. The raw reward is the number of sub-tasks that are currently
solved. With the paper's bias of -4, the reward is 0 while all are solved.
"""

from typing import Any, Sequence, Tuple

import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import remote
from parl_tf.domains import value_ranges

_NUM_SUB_TASKS = 4
_OBSERVATIONS = ('robot', 'scene', 'static', 'gripper')


@gin.configurable
class Calvin(remote.Remote):
  """Four sub-tasks in any order, each worth a score of 25.

  Observations are dicts: `robot` `[15]` and `scene` `[24]` float32, and images
  of the `static` and the `gripper` camera `[100, 100, 3]` uint8. Actions `[7]`:
  changes of the gripper's position (3) and orientation (3), and whether it
  opens. A step takes 1/30 s.
  """

  def __init__(
      self,
      address: str = gin.REQUIRED,
      *,
      observations: Sequence[str] = ('robot', 'static', 'gripper'),
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
      max_episode_steps: Environment steps before the timeout.
      reward_scale: Factor on the raw reward, 0 to 4.
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
    if options.get('action_repeat', 1) != 1:
      raise ValueError(
          '`action_repeat` must be 1, because the reward is the number of'
          f' sub-tasks solved so far, got {options["action_repeat"]}.'
      )
    super().__init__(
        address,
        max_episode_steps=max_episode_steps,
        settings={'observations': ','.join(observations)},
        reward_scale=reward_scale,
        reward_bias=reward_bias,
        **options,
    )

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.of_rewards(
        0, _NUM_SUB_TASKS, self.reward_scale, self.reward_bias, gamma
    )

  def score(self, episodes: Sequence[types.Episode]) -> float:
    """Returns 25 times the mean of an episode's most sub-tasks solved at once.

    Raises:
      ValueError: If there are no episodes.
    """
    solved = domain.mean_over(episodes, lambda x: np.max(x.reward))
    return 100.0 / _NUM_SUB_TASKS * solved
