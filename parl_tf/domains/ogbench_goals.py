"""Cubes whose goal is part of the observation: OGBench's tasks as one task.

As in OGBench's goal-conditioned environments, `cube-*-v0`, a step is judged by
the state after it. The goal is OGBench's oracle representation: the position of
each cube.
"""

from typing import Any, Optional

import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import goals
from parl_tf.domains import ogbench
from parl_tf.domains import play
from parl_tf.domains import success

_TOLERANCE = 0.4  # Decimetres, OGBench's 0.04 m.
_CENTER = np.array([0.425, 0.0, 0.0])  # Metres; OGBench's observations' origin.


class CubeGoals(goals.Goals):
  """Goals of k cubes: their positions `[3 * k]` in decimetres.

  Attributes:
    size: 3 * k.
  """

  def __init__(self, num_cubes: int, action_repeat: int):
    """Initializes the goals.

    Args:
      num_cubes: k.
      action_repeat: Reward per step and misplaced cube, negated.
    """
    self.size = 3 * num_cubes
    self._action_repeat = action_repeat
    first = ogbench.ARM_SIZE + ogbench.CUBE_SIZE * np.arange(num_cubes)
    self._places = (first[:, np.newaxis] + np.arange(3)).flatten()

  def achieved(self, observation: types.Nest) -> np.ndarray:
    return observation[:, self._places]

  def desired(self, observation: types.Nest) -> np.ndarray:
    return observation[:, -self.size :]

  def replaced(self, observation: types.Nest, goal: np.ndarray) -> types.Nest:
    observation = observation.copy()
    observation[:, -self.size :] = goal
    return observation

  def judge(self, achieved: np.ndarray, goal: np.ndarray) -> goals.Judgment:
    way = np.reshape(achieved - goal, [len(achieved), -1, 3])
    is_wrong = np.linalg.norm(way, axis=-1) > _TOLERANCE  # [n, cubes]
    num_wrong = np.sum(is_wrong, axis=1)
    solved = num_wrong == 0
    return goals.Judgment(
        np.asarray(-self._action_repeat * num_wrong, np.float32),
        solved,
        solved,
    )


class GoalCubeEnvironment(ogbench.TableEnvironment):
  """Observations `[19 + 12 * k]` end with the goal of each of k cubes.

  In play, the cubes are carried elsewhere, and success ends no episode.
  """

  def __init__(
      self,
      scene: Any,
      task_goals: CubeGoals,
      *,
      task: Optional[int],
      is_play: bool = False,
      **options: Any,
  ):
    """Takes ownership of `scene`.

    Args:
      scene: OGBench environment.
      task_goals: Judges the steps.
      task: OGBench's task number; None draws it for each episode.
      is_play: Whether `scene` draws its own, changing targets.
      **options: Arguments of `TableEnvironment`.
    """
    self._goals = task_goals
    self._task = task
    self._is_play = is_play
    scene._success_timing = 'post'  # pylint: disable=protected-access
    scene._permute_blocks = True  # pylint: disable=protected-access
    if is_play:  # Success must not end the repetition of an action.
      options['success_signal'] = success.SuccessSignal(None, np.inf)
    super().__init__(scene, **options)

  def seed(self, seed: int) -> None:
    super().seed(seed)
    self._random = np.random.default_rng([seed, 0x60A1])

  def reset(self):
    scene = self.gymnasium_environment
    task = self._task
    if task is None:
      task = int(self._random.integers(1, scene.num_tasks + 1))
    scene._reward_task_id = task  # pylint: disable=protected-access
    time_step = super().reset()
    if self._is_play:
      positions = self._random.permutation(
          scene.task_infos[task - 1]['goal_xyzs']
      )
    else:  # The reset has permuted the cubes.
      positions = scene.data.mocap_pos[scene._cube_target_mocap_ids]  # pylint: disable=protected-access
    self._goal = np.float32(10.0 * (positions - _CENTER)).flatten()
    return self._with_goal(time_step)

  def step(self, action):
    time_step = super().step(action)
    if time_step.first():  # `reset` has added the goal.
      return time_step
    time_step = self._with_goal(time_step)
    return time_step._replace(reward=np.float32(self.outcome().reward[0]))

  def outcome(self) -> play.Outcome:
    """Returns reward `[1]` and success `[1]` of the last step."""
    judgment = self._goals.judge(
        self._goals.achieved(self._observation[np.newaxis]), self._goal
    )
    return play.Outcome(judgment.reward, judgment.success)

  def observation_spec(self):
    spec = super().observation_spec()
    return spec.replace(shape=(spec.shape[0] + self._goals.size,))

  def _with_goal(self, time_step):
    self._observation = np.concatenate([time_step.observation, self._goal])
    return time_step._replace(observation=self._observation.copy())


@gin.configurable
class GoalCube(ogbench.Cube):
  """Carrying cubes to the positions that the observation ends with.

  The five tasks of `Cube` as one, or one of them. Bindings of `Cube`, but
  for `task`, hold here, too. Several cubes have their goals in random
  order. Each episode of play asks for the goal of one of the tasks.
  """

  def __init__(self, *, task: Optional[int] = None, **options: Any):
    """Initializes the task.

    Args:
      task: OGBench's task number, 1 to 5; None draws it for each episode.
      **options: Arguments of `Cube`, but for images.

    Raises:
      ValueError: If an argument is out of range, or images are asked for.
    """
    super().__init__(task=1 if task is None else task, **options)
    if self._image_size:
      raise ValueError(
          '`image_size` must be None for `GoalCube`, whose goals are positions,'
          f' got {self._image_size}.'
      )
    self._only_task = task
    self.recorded_task = 0  # Play has the rewards of its own goal alone.
    self._goals = CubeGoals(self._num_cubes, self._action_repeat)
    self._observation_size += self._goals.size

  def make_environment(
      self, seed: int, evaluation: bool
  ) -> GoalCubeEnvironment:
    del evaluation  # Both have the same starts and goals.
    return self._make(seed, self._make_scene(), self.max_episode_steps)

  def make_play_environment(self, seed: int) -> play.PlayEnvironment:
    environment = self._make(
        seed,
        self._make_scene(is_play=True),
        max(1, ogbench.PLAY_STEPS // self._action_repeat),
        is_play=True,
    )
    return play.PlayEnvironment(
        environment,
        environment.outcome,
        task=self.recorded_task,
        action_repeat=1,  # `environment` repeats them.
        judges_first=False,
    )

  def goals(self) -> CubeGoals:
    return self._goals

  def _make(
      self,
      seed: int,
      scene: Any,
      max_episode_steps: int,
      is_play: bool = False,
  ) -> GoalCubeEnvironment:
    return GoalCubeEnvironment(
        scene,
        self._goals,
        task=self._only_task,
        is_play=is_play,
        seed=seed,
        action_repeat=self._action_repeat,
        max_episode_steps=max_episode_steps,
    )
