"""LIBERO: an arm moves objects according to a language instruction.

The environments (Liu et al., 2023, arXiv:2306.03310) run in a separate process.
See `examples/libero` for how to install and serve them.
"""

from typing import Any, Optional, Tuple

import gin

from parl_tf.domains import arguments
from parl_tf.domains import remote
from parl_tf.domains import value_ranges

# Number of tasks and episode length in steps of 0.05 s. The lengths follow the
# code released with OpenVLA (Kim et al., 2024, arXiv:2406.09246) and slightly
# exceed the longest demonstration. LIBERO's own evaluation uses 600.
_SUITES = {
    'libero_spatial': (10, 220),
    'libero_object': (10, 280),
    'libero_goal': (10, 300),
    'libero_90': (90, 400),
    'libero_10': (10, 520),
}


@gin.configurable
class Libero(remote.Remote):
  """A LIBERO task; the raw reward is 1 at success, which ends the episode.

  Observations are dicts of float32 arrays, named as in LIBERO's data files:
  `joint_states` `[7]` in radians, `ee_states` `[6]` (position in metres,
  axis-angle in radians), `gripper_states` `[2]` in metres. With images, there
  are also `agentview_rgb` and `eye_in_hand_rgb` `[size, size, 3]` uint8, with
  the bottom row first. Without images, there is `physics`: all positions and
  velocities of the simulator, including the robot's. Actions `[7]`: changes of
  position (3) and orientation (3), and the gripper command (-1 opens it).
  """

  def __init__(
      self,
      address: str = gin.REQUIRED,
      *,
      suite: str = gin.REQUIRED,
      task: int = gin.REQUIRED,
      initial_state: int = -1,
      images: bool = True,
      image_size: int = 128,
      instruction: bool = False,
      max_episode_steps: Optional[int] = None,
      reward_scale: float = 1.0,
      reward_bias: float = -1.0,
      **options: Any,
  ):
    """Connects to the server and reads the specs of the task.

    Args:
      address: `host:port` of the server.
      suite: `libero_spatial`, `libero_object`, `libero_goal`, `libero_90` or
        `libero_10`.
      task: Index of the task in the suite.
      initial_state: Index of one of the task's initial states; -1 draws one at
        each reset.
      images: Whether to render the cameras.
      image_size: Height and width of the images; 128 in LIBERO's data files.
      instruction: Whether observations include `instruction` `[128]` uint8, the
        task's instruction in UTF-8, padded with zeros.
      max_episode_steps: Environment steps before the timeout; None for the
        default of the suite.
      reward_scale: Factor on the raw reward.
      reward_bias: Added to the scaled reward.
      **options: Arguments of `Remote`.

    Raises:
      ConnectionError: If no server can be reached in time.
      RuntimeError: If the server answers with an error.
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('suite', suite, _SUITES)
    num_tasks, suite_steps = _SUITES[suite]
    arguments.check_range('task', task, 0, num_tasks - 1)
    arguments.check_range('initial_state', initial_state, -1)
    arguments.check_range('image_size', image_size, 1)
    super().__init__(
        address,
        max_episode_steps=(
            suite_steps if max_episode_steps is None else max_episode_steps
        ),
        settings={
            'suite': suite,
            'task': task,
            'initial_state': initial_state,
            'images': images,
            'image_size': image_size,
            'instruction': instruction,
        },
        reward_scale=reward_scale,
        reward_bias=reward_bias,
        **options,
    )

  def never_succeeds_value(self, gamma: float) -> float:
    """Returns the discounted sum of the bias."""
    return self.reward_bias / (1.0 - gamma)

  def value_range(self, gamma: float) -> Tuple[float, float]:
    return value_ranges.until_success(
        self.reward_scale, self.reward_bias, gamma
    )
