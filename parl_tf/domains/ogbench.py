"""OGBench's cubes: a robot arm that carries cubes to fixed places.

Environments are those of OGBench (Park et al., 2025, arXiv:2410.20092),
`cube-*-singletask-task*`: an arm with a gripper, five actions, 0.05 s a step.
Here an action may be held for some steps, and a reset forgets all that was.
"""

import copy
import functools
from typing import Any, Mapping, Optional

from dm_env import specs
import gin
import numpy as np

from parl_tf.domains import arguments
from parl_tf.domains import domain
from parl_tf.domains import gymnasium_adapter

_NUM_CUBES = {'single': 1, 'double': 2, 'triple': 3, 'quadruple': 4}
_TASKS = range(1, 6)
# As OGBench's names and numbers of a cube: 19 of the arm and 9 of each cube.
_ARM_SIZE, _CUBE_SIZE = 19, 9

_ACTION_SPEC = specs.BoundedArray((5,), np.float32, -1.0, 1.0, name='action')


class CubeEnvironment(gymnasium_adapter.GymnasiumEnvironment):
  """The cube task as a `dm_env` environment.

  Observations `[19 + 9 C]` for C cubes: joint angles (6) and rates (6) of the
  arm, place of the gripper (3), cosine and sine of its yaw, its opening and its
  contact; of each cube place (3), quaternion (4), cosine and sine of its yaw.
  Places are in decimetres from the middle of the table. Actions `[5]`: changes
  of the gripper's place (3, at most 0.05 m), yaw (at most 0.3 rad) and opening.
  Raw rewards: minus the number of cubes out of place, a step of 0.05 s.
  """

  def reset(self):
    time_step = super().reset()
    scene = self.gymnasium_environment
    _forget(scene)
    return time_step._replace(
        observation=scene.compute_observation().astype(np.float32)
    )

  def info(self) -> Mapping[str, np.ndarray]:
    data = self.gymnasium_environment.data
    return {
        'qpos': data.qpos.astype(np.float32),
        'qvel': data.qvel.astype(np.float32),
    }

  def close(self) -> None:
    """Does nothing: what a renderer holds goes with the environment."""


class CubeController(domain.Controller):
  """OGBench's Markovian oracle: grasps a cube out of place, carries it, drops.

  It has no inner state, so that a disturbed arm begins again with what is to be
  done next.
  """

  def __init__(self, min_norm: float, speed: float = 1.0):
    """Makes a controller.

    Args:
      min_norm: Metres for which the arm is sent at least, however near.
      speed: Factor on the changes of place and yaw.
    """
    self._min_norm = min_norm
    self._factors = np.array([speed, speed, speed, speed, 1.0])

  def reset(self, seed: int) -> None:
    del seed  # Nothing is drawn.

  def action(
      self, time_step: Any, environment: CubeEnvironment
  ) -> np.ndarray:
    # Imported here, for it takes long.
    from ogbench.manipspace.oracles.markov import cube_markov  # pylint: disable=g-import-not-at-top

    del time_step
    scene = environment.gymnasium_environment
    oracle = cube_markov.CubeMarkovOracle(env=scene, min_norm=self._min_norm)
    # Where it goes once all cubes are in place; drawn by its own `reset`.
    oracle._final_pos = np.mean(scene._arm_sampling_bounds, axis=0)  # pylint: disable=protected-access
    oracle._final_yaw = 0.0  # pylint: disable=protected-access
    oracle._step = 0  # pylint: disable=protected-access
    action = oracle.select_action(None, _oracle_info(scene))
    return (self._factors * action).astype(np.float32)


@gin.configurable
class Cube(domain.Domain):
  """Carrying cubes to fixed places; minus the cubes out of place a step."""

  def __init__(
      self,
      *,
      size: str = 'single',
      task: int = 2,
      action_repeat: int = 1,
      max_episode_steps: int = 200,
      reward_scale: float = 1.0,
      reward_bias: float = 0.0,
      oracle_min_norm: float = 0.4,
      data_speed: float = 1.0,
  ):
    """Makes the task.

    Args:
      size: `single`, `double`, `triple` or `quadruple`.
      task: OGBench's number of the task, 1 to 5; it fixes where cubes start and
        where they are to go.
      action_repeat: Steps of 0.05 s for which an action is held.
      max_episode_steps: Environment steps until the time-out.
      reward_scale: Factor on the raw reward, the sum over the held steps.
      reward_bias: Added to the scaled reward.
      oracle_min_norm: Metres for which the controllers send the arm at least;
        0.4, OGBench's own, gives actions at the bounds almost everywhere.
      data_speed: Share, in (0, 1], of its moves that the controller makes that
        records data: below 1 all data are slow.

    Raises:
      ValueError: If an argument is out of range.
    """
    arguments.check_choice('size', size, _NUM_CUBES)
    arguments.check_choice('task', task, _TASKS)
    arguments.check_range('action_repeat', action_repeat, 1)
    arguments.check_range('max_episode_steps', max_episode_steps, 1)
    arguments.check_positive('reward_scale', reward_scale)
    arguments.check_positive('oracle_min_norm', oracle_min_norm)
    arguments.check_positive('data_speed', data_speed)
    arguments.check_range('data_speed', data_speed, 0.0, 1.0)
    self.reward_scale = reward_scale
    self.reward_bias = reward_bias
    self.max_episode_steps = max_episode_steps
    self._size = size
    self._task = task
    self._action_repeat = action_repeat
    self._oracle_min_norm = oracle_min_norm
    self._data_speed = data_speed

  def make_environment(self, seed: int, evaluation: bool) -> CubeEnvironment:
    del evaluation  # Both begin where the task says.
    return CubeEnvironment(
        _make_scene(self._size, self._task),
        seed=seed,
        action_repeat=self._action_repeat,
        max_episode_steps=self.max_episode_steps,
    )

  def make_controller(self, environment: CubeEnvironment) -> CubeController:
    del environment  # It is given to each decision.
    return CubeController(self._oracle_min_norm)

  def make_data_controller(
      self, environment: CubeEnvironment
  ) -> CubeController:
    del environment
    return CubeController(self._oracle_min_norm, self._data_speed)

  def observation_spec(self) -> specs.Array:
    size = _ARM_SIZE + _CUBE_SIZE * _NUM_CUBES[self._size]
    return specs.Array((size,), np.float32, name='observation')

  def action_spec(self) -> specs.BoundedArray:
    return _ACTION_SPEC

  def never_succeeds_value(self, gamma: float) -> Optional[float]:
    """Returns the value of one cube never in place; of more it is not known."""
    if _NUM_CUBES[self._size] > 1:
      return None
    reward = self.reward_bias - self.reward_scale * self._action_repeat
    return reward / (1.0 - gamma)


def _make_scene(size: str, task: int) -> Any:
  """Returns an OGBench environment with simulator state of its own.

  Reading the description of a scene takes 0.8 s, its compiled model 60 MiB; all
  environments of a task share both, which they only read, but
  for the cubes' colours, which follow success.
  """
  import mujoco  # pylint: disable=g-import-not-at-top

  first = _first_scene(size, task)
  scene = copy.copy(first)
  scene._data = mujoco.MjData(first.model)  # pylint: disable=protected-access
  scene._ik = copy.copy(first._ik)  # pylint: disable=protected-access
  scene._ik._data = mujoco.MjData(first._ik._model)  # pylint: disable=protected-access
  scene._np_random = None  # pylint: disable=protected-access
  scene._reset_next_step = True  # pylint: disable=protected-access
  return scene


@functools.lru_cache(maxsize=None)
def _first_scene(size: str, task: int) -> Any:
  """Returns the environment whose model all of a task share."""
  # Imported here, for they take long and not every user of a domain steps it.
  import gymnasium  # pylint: disable=g-import-not-at-top
  try:
    import ogbench  # pylint: disable=g-import-not-at-top
  except ImportError as error:
    raise ImportError(
        'The cubes need OGBench: pip install "parl_tf[ogbench]".'
    ) from error
  gymnasium.register_envs(ogbench)
  name = f'cube-{size}-singletask-task{task}-v0'
  scene = gymnasium.make(name).unwrapped
  scene.reset(seed=0)
  return scene


def _forget(scene: Any) -> None:
  """Clears what an OGBench reset leaves: warm start, forces and contacts.

  It plays two actions that no seed draws, then puts places and speeds back
  alone.
  """
  import mujoco  # pylint: disable=g-import-not-at-top

  data = scene.data
  names = ('qpos', 'qvel', 'mocap_pos', 'mocap_quat')
  kept = {name: getattr(data, name).copy() for name in names}
  mujoco.mj_resetData(scene.model, data)
  for name, array in kept.items():
    getattr(data, name)[:] = array
  mujoco.mj_forward(scene.model, data)
  scene.pre_step()
  scene.post_step()


def _oracle_info(scene: Any) -> Mapping[str, Any]:
  """Returns what OGBench tells an oracle, which it does while recording only.

  The target is the first cube out of place, or the first one.
  """
  info = scene.compute_ob_info()
  successes = scene._compute_successes()  # pylint: disable=protected-access
  target = successes.index(False) if False in successes else 0
  place = scene._cube_target_mocap_ids[target]  # pylint: disable=protected-access
  return {
      **info,
      'privileged/target_block': target,
      'privileged/target_block_pos': scene.data.mocap_pos[place].copy(),
      # A cube may lie as it likes: the goal's own yaw is 0.
      'privileged/target_block_yaw': np.zeros([1]),
  }
