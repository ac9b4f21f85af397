"""Play in OGBench's manipulation scenes: a controller, and all tasks' rewards.

OGBench (Park et al., 2025, arXiv:2410.20092) records play with random targets,
which the scene draws in its data-collection mode: carry a cube to a random
place and yaw, or onto another cube; press a random button; open or close the
drawer or window. When an oracle is done, the scene draws the next target.

Note: This is the protocol of OGBench's `noisy` datasets, whose oracles react to
the state. The oracles of its `play` datasets follow precomputed plans.
"""

from typing import Any, Tuple

import dm_env
import numpy as np

from parl_tf.domains import ogbench_oracles
from parl_tf.domains import play

# Steps of 0.05 s after which an oracle gives up, as in OGBench.
_MAX_STEPS = {'cube': 200, 'button': 100, 'drawer': 75, 'window': 75}
# Range from which each episode draws its probability of stacking a cube on
# another one, by number of cubes, as in OGBench.
_STACKING = {1: (0.0, 0.0), 2: (0.0, 0.25), 3: (0.05, 0.35), 4: (0.1, 0.5)}
_TOLERANCE = 0.04  # Metres from its goal at which an object is in place.
# y in metres beyond which a cube is off the table. On the left, it may be in
# the drawer, where it is at one of these heights.
_RIGHT_EDGE, _LEFT_EDGE = 0.29, -0.3
_DRAWER_HEIGHTS = (0.06, 0.08)


class PlayController(ogbench_oracles.OracleController):
  """Makes random changes to the scene, one after another."""

  def __init__(
      self,
      min_norm: float,
      speed: float = 1.0,
      *,
      action_repeat: int = 1,
  ):
    """Initializes the controller.

    Args:
      min_norm: See `OracleController`.
      speed: See `OracleController`.
      action_repeat: Number of 0.05 s steps for which each action is repeated.
    """
    super().__init__(min_norm, speed)
    self._action_repeat = action_repeat
    self._random: np.random.Generator  # Set by `reset`.
    self._stacking = 0.0
    self._num_actions = 0
    self._has_begun = False
    self._final_pose: Tuple[np.ndarray, float]  # Set by the first action.

  def reset(self, seed: int) -> None:
    self._random = np.random.default_rng(seed)
    self._has_begun = False

  def action(
      self, time_step: dm_env.TimeStep, environment: play.PlayEnvironment
  ) -> np.ndarray:
    return super().action(time_step, environment.unwrapped)

  def _decide(self, scene: Any) -> np.ndarray:
    if not self._has_begun:
      num_cubes = getattr(scene, '_num_cubes', 0)  # The puzzle has none.
      # The scene's reset has drawn the first target.
      low, high = _STACKING.get(num_cubes, (0.0, 0.0))
      self._stacking = self._random.uniform(low, high)
      self._begin(scene)
    elif self._is_done or self._is_late(scene):
      scene.set_new_target(return_info=False, p_stack=self._stacking)
      self._begin(scene)
    self._num_actions += 1
    return self._pursue(scene)

  def _begin(self, scene: Any) -> None:
    """Starts to pursue the scene's new target."""
    self._num_actions = 0
    self._has_begun = True
    self._final_pose = (
        self._random.uniform(*scene._arm_sampling_bounds),  # pylint: disable=protected-access
        self._random.uniform(-np.pi, np.pi),
    )

  def _is_late(self, scene: Any) -> bool:
    num_steps = self._num_actions * self._action_repeat
    return num_steps >= _MAX_STEPS[scene._target_task]  # pylint: disable=protected-access

  def _pursue(self, scene: Any) -> np.ndarray:
    """Returns the action towards the scene's current target."""
    # pylint: disable=protected-access
    thing = scene._target_task
    if thing == 'cube':
      told = scene.compute_ob_info()
      return self._carry(
          scene,
          scene._target_block,
          told['privileged/target_block_pos'],
          told['privileged/target_block_yaw'],
      )
    if thing == 'button':
      button = scene._target_button
      wanted = scene._target_button_states[button]
      return self._press(
          scene,
          button,
          scene._cur_button_states[button] != wanted,
          # Only the puzzle has no cubes.
          gripper_always_closed=not hasattr(scene, '_num_cubes'),
      )
    target = {
        'drawer': scene._target_drawer_pos, 'window': scene._target_window_pos
    }[thing]
    # pylint: enable=protected-access
    way = target - ogbench_oracles.slide_position(scene, thing)
    return self._pull(scene, thing, way)

  def _end(self, scene: Any) -> Tuple[np.ndarray, float]:
    del scene
    return self._final_pose


def judge_cubes(scene: Any) -> play.Outcome:
  """Judges the cubes; the reward is minus the number of misplaced ones."""
  goals = np.stack([task['goal_xyzs'] for task in scene.task_infos])
  return _outcome(_are_placed(scene, goals))


def judge_scene(scene: Any) -> play.Outcome:
  """Judges cube, buttons, drawer and window; minus the number of wrong ones."""
  goals = [task['goal'] for task in scene.task_infos]
  slides = [
      [
          abs(slide - goal[name]) <= _TOLERANCE
          for name, slide in (
              ('drawer_pos', ogbench_oracles.slide_position(scene, 'drawer')),
              ('window_pos', ogbench_oracles.slide_position(scene, 'window')),
          )
      ]
      for goal in goals
  ]
  states = np.stack([goal['button_states'] for goal in goals])
  return _outcome(
      np.concatenate(
          [
              _are_placed(scene, np.stack([x['block_xyzs'] for x in goals])),
              scene._cur_button_states == states,  # pylint: disable=protected-access
              slides,
          ],
          axis=1,
      )
  )


def judge_puzzle(scene: Any) -> play.Outcome:
  """Judges the buttons; the reward is minus the number in a wrong state."""
  states = np.stack([x['goal_button_states'] for x in scene.task_infos])
  return _outcome(scene._cur_button_states == states)  # pylint: disable=protected-access


def is_cube_in_view(scene: Any) -> bool:
  """Returns whether the scene's cube is on the table or in the drawer.

  OGBench repeats episodes that violate this.
  """
  _, y, z = ogbench_oracles.cube_position(scene, 0)
  low, high = _DRAWER_HEIGHTS
  return y < _RIGHT_EDGE and (y > _LEFT_EDGE or low <= z <= high)


def _are_placed(scene: Any, goals: np.ndarray) -> np.ndarray:
  """Returns which cubes are at their goals in K tasks, `[K, cubes]`.

  Args:
    scene: OGBench environment.
    goals: `[K, cubes, 3]` in metres.
  """
  places = [
      ogbench_oracles.cube_position(scene, cube)
      for cube in range(goals.shape[1])
  ]
  return np.linalg.norm(goals - places, axis=-1) <= _TOLERANCE


def _outcome(is_right: np.ndarray) -> play.Outcome:
  """Returns the outcome; `is_right` is `[K, objects]` for K tasks."""
  return play.Outcome(
      np.sum(is_right, axis=1) - float(is_right.shape[1]),
      np.all(is_right, axis=1),
  )
