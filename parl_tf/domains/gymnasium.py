"""Any task registered with gymnasium, selected by its id."""

import math
from typing import Any, Callable, Mapping, Optional, Tuple

import gin
import gymnasium

from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import value_ranges


@gin.configurable
class Gymnasium(gymnasium_adapter.GymnasiumDomain):
  """A registered environment with an optional data controller.

  Actions must be a one-axis bounded box, and observations an array or a flat
  dict of arrays; see `GymnasiumEnvironment`. Without a controller, the offline
  data must come from a file.
  """

  def __init__(
      self,
      id: str = gin.REQUIRED,
      *,
      kwargs: Optional[Mapping[str, Any]] = None,
      max_episode_steps: Optional[int] = None,
      action_repeat: int = 1,
      reward_scale: float = 1.0,
      reward_bias: float = 0.0,
      reward_range: Optional[Tuple[float, float]] = None,
      success_key: Optional[str] = 'success',
      controller_ctor: Optional[Callable[[], domain.Controller]] = None,
  ):
    """Creates the task once to read its specs.

    Args:
      id: Id for `gymnasium.make`. `module:id` imports the module that registers
        the task.
      kwargs: Further arguments of `gymnasium.make`.
      max_episode_steps: Environment steps, after `action_repeat`, before the
        timeout; None for the registered limit.
      action_repeat: Number of task steps for which each action is repeated.
        Their rewards are summed.
      reward_scale: Factor on the raw reward.
      reward_bias: Added to the scaled reward.
      reward_range: Lowest and highest raw reward of a task step, which
        determine the value range; None if unknown.
      success_key: Entry of `info` that is true on success; None to count a
        positive reward as success.
      controller_ctor: Makes the controller that records offline data; None if
        the task has none.

    Raises:
      ValueError: If an argument is out of range, the task has no time limit, or
        its actions are not a one-axis bounded box.
    """
    arguments.check_range('action_repeat', action_repeat, 1)
    if reward_range is not None and not reward_range[0] < reward_range[1]:
      raise ValueError(
          '`reward_range` must be the lowest and the highest reward, got '
          f'{reward_range}.'
      )
    kwargs = dict(kwargs or {})
    task = gymnasium.make(id, **kwargs)
    if max_episode_steps is None:
      limit = task.spec.max_episode_steps
      if limit is None:
        raise ValueError(
            f'`max_episode_steps` must be given for {id}, which is registered'
            ' without a time limit, got None.'
        )
      max_episode_steps = math.ceil(limit / action_repeat)
    self._set_constants(max_episode_steps, reward_scale, reward_bias)
    self._reward_range = reward_range
    self._id = id
    self._kwargs = kwargs
    self._action_repeat = action_repeat
    self._success_key = success_key
    self._controller_ctor = controller_ctor
    self._read_specs(gymnasium_adapter.GymnasiumEnvironment(task, seed=0))

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> gymnasium_adapter.GymnasiumEnvironment:
    del evaluation  # Both use the same task.
    return gymnasium_adapter.GymnasiumEnvironment(
        # -1: the adapter alone counts steps, after `action_repeat`.
        gymnasium.make(self._id, max_episode_steps=-1, **self._kwargs),
        seed=seed,
        action_repeat=self._action_repeat,
        max_episode_steps=self.max_episode_steps,
        success_key=self._success_key,
    )

  def make_controller(
      self, environment: domain.Environment
  ) -> Optional[domain.Controller]:
    del environment
    return None if self._controller_ctor is None else self._controller_ctor()

  def value_range(self, gamma: float) -> Optional[Tuple[float, float]]:
    if self._reward_range is None:
      return None
    # The episode may end after the first repetition of an action.
    lowest, highest = self._reward_range
    lowest = min(lowest, self._action_repeat * lowest)
    highest = max(highest, self._action_repeat * highest)
    return value_ranges.of_rewards(
        lowest, highest, self.reward_scale, self.reward_bias, gamma
    )
