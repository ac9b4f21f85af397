"""A walk along a line: a minimal domain for tests."""

import dm_env
from dm_env import specs
import gin
import numpy as np

from parl_tf.domains import domain as domain_lib

GOAL = 2.0
STEP = 0.5


class LineWalkEnvironment(domain_lib.Environment):
  """A position that moves by half the action; the task is to reach 2.

  Observations are float32 `[2]`: position and number of steps. Every step
  reuses the same array.
  """

  def __init__(self, domain, seed):
    self._domain = domain
    self._observation = np.zeros([2], np.float32)
    self.num_resets = 0
    self.is_closed = False
    self.seed(seed)

  def seed(self, seed):
    self._random = np.random.default_rng(seed)

  def reset(self):
    self.num_resets += 1
    self._observation[:] = self._random.uniform(-1.0, 1.0), 0.0
    return dm_env.restart(self._present())

  def step(self, action):
    self._observation += STEP * action[0], 1.0
    reward = np.float32(self.is_success())
    if self.is_success():
      return dm_env.termination(reward, self._present())
    if self._observation[1] == self._domain.time_limit:
      return dm_env.truncation(reward, self._present(), discount=1.0)
    return dm_env.transition(reward, self._present(), discount=1.0)

  def close(self):
    self.is_closed = True

  def is_success(self):
    return bool(self._observation[0] >= GOAL)

  def render(self):
    if not self._domain.draws:
      return super().render()
    image = np.zeros([32, 64, 3], np.uint8)
    column = np.clip(16 * (self._observation[0] + 2.0), 0, 63).astype(int)
    image[:, column] = 255
    return image

  def observation_spec(self):
    return self._domain.observation_spec()

  def action_spec(self):
    return self._domain.action_spec()

  def _present(self):
    if self._domain.is_dict:
      return {'place': self._observation[:1], 'time': self._observation[1:]}
    return self._observation


class Walker(domain_lib.Controller):
  """Walks towards the goal at random speeds."""

  def reset(self, seed):
    self._random = np.random.default_rng(seed)

  def action(self, time_step, environment):
    return self._random.uniform(0.8, 1.0, [1]).astype(np.float32)


@gin.configurable
class LineWalk(domain_lib.Domain):
  """The task; actions in raw units lie in [-3, 1]."""

  def __init__(
      self,
      *,
      max_episode_steps=10,
      time_limit=None,
      is_dict=False,
      has_controller=True,
      draws=True,
  ):
    self.max_episode_steps = max_episode_steps
    self.time_limit = time_limit or max_episode_steps
    self.is_dict = is_dict
    self.has_controller = has_controller
    self.draws = draws
    self.environments = []

  def make_environment(self, seed, evaluation):
    if not evaluation:
      raise ValueError('Only evaluations walk here.')
    self.environments.append(LineWalkEnvironment(self, seed))
    return self.environments[-1]

  def make_controller(self, environment):
    return Walker() if self.has_controller else None

  def observation_spec(self):
    if self.is_dict:
      part = specs.Array([1], np.float32)
      return {'place': part, 'time': part}
    return specs.Array([2], np.float32)

  def action_spec(self):
    return specs.BoundedArray([1], np.float32, -1.0, 1.0)

  @property
  def raw_action_bounds(self):
    return np.array([-3.0], np.float32), np.array([1.0], np.float32)
