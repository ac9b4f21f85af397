"""LIBERO's tasks: an arm brings things to where a sentence says.

The environments are those of Liu et al. (2023), arXiv:2306.03310, in a process
of their own: `examples/libero` tells how to install and serve them.
"""

from typing import Any, Optional, Tuple

import gin

from parl_tf.domains import arguments
from parl_tf.domains import remote
from parl_tf.domains import value_ranges

# Number of tasks, and steps of 0.05 s that an episode may have: those of the
# program released with OpenVLA (Kim et al., 2024, arXiv:2406.09246), somewhat
# more than the longest demonstration has. LIBERO's own evaluation has 600.
_SUITES = {
    'libero_spatial': (10, 220),
    'libero_object': (10, 280),
    'libero_goal': (10, 300),
    'libero_90': (90, 400),
    'libero_10': (10, 520),
}


@gin.configurable
class Libero(remote.Remote):
  """A task of LIBERO; its raw reward is 1 where it is solved, which ends it.

  Observations are a dict of float32, with the names of LIBERO's data files:
  `joint_states` `[7]` in radians, `ee_states` `[6]` (place in metres, axis
  times angle in radians), `gripper_states` `[2]` in metres; with pictures
  `agentview_rgb` and `eye_in_hand_rgb` `[size, size, 3]` uint8, lowest row
  first; without them `physics`, positions and velocities of everything. Actions
  `[7]`: changes of place (3) and orientation (3), gripper (-1 opens it).
  """

  def __init__(
      self,
      address: str = gin.REQUIRED,
      *,
      suite: str = gin.REQUIRED,
      task: int = gin.REQUIRED,
      initial_state: int = -1,
      pictures: bool = True,
      picture_size: int = 128,
      instruction: bool = False,
      max_episode_steps: Optional[int] = None,
      reward_scale: float = 1.0,
      reward_bias: float = -1.0,
      **options: Any,
  ):
    """Asks the server what the task has.

    Args:
      address: `host:port` of the server.
      suite: `libero_spatial`, `libero_object`, `libero_goal`, `libero_90` or
        `libero_10`.
      task: Number of the task in the suite, from 0.
      initial_state: Number of the task's initial state, from 0; -1 to draw one
        at each reset.
      pictures: Whether cameras are drawn.
      picture_size: Height and width of pictures; 128 in LIBERO's data files.
      instruction: Whether there is the part `instruction` `[128]` uint8, the
        task in words as UTF-8, filled up with zeros.
      max_episode_steps: Environment steps until the time-out; None for those of
        the suite.
      reward_scale: Factor on the raw reward.
      reward_bias: Added to the scaled reward.
      **options: Of `Remote`.

    Raises:
      ConnectionError: If no server is reached in time.
      RuntimeError: If the server answers with an error.
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('suite', suite, _SUITES)
    num_tasks, suite_steps = _SUITES[suite]
    arguments.check_range('task', task, 0, num_tasks - 1)
    arguments.check_range('initial_state', initial_state, -1)
    arguments.check_range('picture_size', picture_size, 1)
    super().__init__(
        address,
        max_episode_steps=(
            suite_steps if max_episode_steps is None else max_episode_steps
        ),
        settings={
            'suite': suite,
            'task': task,
            'initial_state': initial_state,
            'pictures': pictures,
            'picture_size': picture_size,
            'instruction': instruction,
        },
        reward_scale=reward_scale,
        reward_bias=reward_bias,
        **options,
    )

  def never_succeeds_value(self, gamma: float) -> float:
    """Returns the bias summed for ever."""
    return self.reward_bias / (1.0 - gamma)

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.until_success(
        self.reward_scale, self.reward_bias, gamma
    )
