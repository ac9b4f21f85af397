"""OGBench manipulation whose goal is part of the observation.

As in OGBench's goal-conditioned environments, such as `cube-single-v0`, one
task stands for five, and a step is judged by the state after it. The goal is
OGBench's oracle representation: the wanted position of each cube, state of each
button, and position of drawer and window.
"""

import abc
from typing import Any, Callable, List, Mapping, Optional

import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import goals
from parl_tf.domains import ogbench
from parl_tf.domains import play
from parl_tf.domains import success

# Tolerances in units of the observation.
_CUBE_TOLERANCE = 0.4  # Decimetres, OGBench's 0.04 m.
_BUTTON_TOLERANCE = 0.5  # Of a state, 0 or 1.
_CENTER = np.array([0.425, 0.0, 0.0])  # Metres; OGBench's observations' origin.
_DRAWER_SCALE, _WINDOW_SCALE = 18.0, 15.0  # Of OGBench's observations.
_SLIDE_TOLERANCE = 0.04  # Metres.

_MakeGoal = Callable[[Any, Mapping[str, Any], np.random.Generator], np.ndarray]


class ObjectGoals(goals.Goals):
  """Goals `[G]`: the elements of the observation that contain objects' states.

  Attributes:
    size: G.
  """

  def __init__(self, action_repeat: int):
    """Initializes goals without objects; see `add`.

    Args:
      action_repeat: Reward of a step that does not reach the goal, negated.
    """
    self.size = 0
    self._action_repeat = action_repeat
    self._places: List[int] = []
    self._first: List[int] = []  # Of each object in a goal.
    self._tolerances: List[float] = []

  def add(self, places: np.ndarray, tolerance: float) -> None:
    """Adds an object.

    Args:
      places: Indices of its elements of the observation.
      tolerance: Distance from its goal up to which it counts as reached.
    """
    self._first.append(self.size)
    self._tolerances.append(tolerance)
    self._places.extend(places)
    self.size += len(places)

  def achieved(self, observation: types.Nest) -> np.ndarray:
    return observation[:, self._places]

  def desired(self, observation: types.Nest) -> np.ndarray:
    return observation[:, -self.size :]

  def replaced(self, observation: types.Nest, goal: np.ndarray) -> types.Nest:
    observation = observation.copy()
    observation[:, -self.size :] = goal
    return observation

  def judge(self, achieved: np.ndarray, goal: np.ndarray) -> goals.Judgment:
    squares = np.square(achieved - goal)
    ways = np.sqrt(np.add.reduceat(squares, self._first, axis=1))
    solved = np.all(ways <= self._tolerances, axis=1)
    return goals.Judgment(
        np.where(solved, 0.0, -self._action_repeat).astype(np.float32),
        solved,
        solved,
    )


class GoalEnvironment(ogbench.TableEnvironment):
  """Observations are those of `TableEnvironment`, followed by the goal.

  In play, the objects are moved elsewhere, and success ends no episode.
  """

  def __init__(
      self,
      scene: Any,
      task_goals: ObjectGoals,
      make_goal: _MakeGoal,
      *,
      task: Optional[int],
      is_play: bool = False,
      **options: Any,
  ):
    """Takes ownership of `scene`.

    Args:
      scene: OGBench environment.
      task_goals: Judges the steps.
      make_goal: Returns the goal `[G]` of an episode, given the scene after its
        reset, OGBench's entry of the task, and a random generator.
      task: OGBench's task number; None draws it for each episode.
      is_play: Whether `scene` draws its own, changing targets.
      **options: Arguments of `TableEnvironment`.
    """
    self._goals = task_goals
    self._make_goal = make_goal
    self._task = task
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
    goal = self._make_goal(scene, scene.task_infos[task - 1], self._random)
    self._goal = np.asarray(goal, np.float32)
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


class GoalButtonEnvironment(GoalEnvironment, ogbench.ButtonEnvironment):
  """A scene with buttons, whose observations are followed by the goal."""


class GoalTask(ogbench.TableTask):
  """Base class of tasks whose observation ends with the goal.

  The five tasks of a scene as one, or one of them. A step that does not reach
  the goal costs a reward of 1 per 0.05 s. Each episode of play asks for the
  goal of one of the tasks.
  """

  _environment_class = GoalEnvironment
  _make_goal: _MakeGoal

  def __init__(self, *, task: Optional[int] = None, **options: Any):
    """Initializes the task.

    Args:
      task: OGBench's task number, 1 to 5; None draws it for each episode.
      **options: Arguments of the scene's task, but for images.

    Raises:
      ValueError: If an argument is out of range, or images are asked for.
    """
    super().__init__(task=1 if task is None else task, **options)
    if self._image_size:
      raise ValueError(
          '`image_size` must be None for a task whose goal is part of the'
          f' observation, got {self._image_size}.'
      )
    self._only_task = task
    self.recorded_task = 0  # Play has the rewards of its own goal alone.
    self._goals = ObjectGoals(self._action_repeat)
    self._add_objects(self._goals)
    self._observation_size += self._goals.size
    self._num_things = 1  # All in their goal states or not.

  @abc.abstractmethod
  def _add_objects(self, task_goals: ObjectGoals) -> None:
    """Adds the scene's objects, in the order of `_make_goal`."""

  def make_environment(self, seed: int, evaluation: bool) -> GoalEnvironment:
    del evaluation  # Both have the same starts and goals.
    return self._make(seed, self._make_scene(), self.max_episode_steps)

  def make_play_environment(self, seed: int) -> play.PlayEnvironment:
    scene = self._make_scene(is_play=True)
    environment = self._make(
        seed,
        scene,
        max(1, ogbench.PLAY_STEPS // self._action_repeat),
        is_play=True,
    )
    return play.PlayEnvironment(
        environment,
        environment.outcome,
        task=self.recorded_task,
        action_repeat=1,  # `environment` repeats them.
        judges_first=False,
        is_healthy=lambda: self._is_healthy(scene),
    )

  def goals(self) -> ObjectGoals:
    return self._goals

  def never_succeeds_value(self, gamma: float) -> float:
    reward = self.reward_bias - self.reward_scale * self._action_repeat
    return reward / (1.0 - gamma)

  def _make(
      self,
      seed: int,
      scene: Any,
      max_episode_steps: int,
      is_play: bool = False,
  ) -> GoalEnvironment:
    return self._environment_class(
        scene,
        self._goals,
        self._make_goal,
        task=self._only_task,
        is_play=is_play,
        seed=seed,
        action_repeat=self._action_repeat,
        max_episode_steps=max_episode_steps,
    )


def _cube_places(number: int) -> np.ndarray:
  """Returns the places of a cube's position in the observation, `[3]`."""
  return ogbench.ARM_SIZE + ogbench.CUBE_SIZE * number + np.arange(3)


def _cubes_goal(
    scene: Any, info: Mapping[str, Any], random: np.random.Generator
) -> np.ndarray:
  """Returns the wanted positions of the cubes, `[3 * k]` in decimetres."""
  # pylint: disable=protected-access
  if scene._mode == 'data_collection':
    positions = random.permutation(info['goal_xyzs'])
  else:  # The reset has permuted the cubes.
    positions = scene.data.mocap_pos[scene._cube_target_mocap_ids]
  # pylint: enable=protected-access
  return (10.0 * (positions - _CENTER)).flatten()


def _scene_goal(
    scene: Any, info: Mapping[str, Any], random: np.random.Generator
) -> np.ndarray:
  """Returns the wanted states of cube, buttons, drawer and window, `[7]`."""
  del scene, random
  goal = info['goal']
  return np.concatenate([
      (10.0 * (goal['block_xyzs'] - _CENTER)).flatten(),
      goal['button_states'],
      [_DRAWER_SCALE * goal['drawer_pos'], _WINDOW_SCALE * goal['window_pos']],
  ])


def _puzzle_goal(
    scene: Any, info: Mapping[str, Any], random: np.random.Generator
) -> np.ndarray:
  """Returns the wanted states of the buttons."""
  del scene, random
  return info['goal_button_states'].flatten()


def _add_buttons(task_goals: ObjectGoals, first: int, number: int) -> None:
  """Adds buttons whose entries in the observation begin at `first`."""
  for button in range(number):
    # The second element of a one-hot state is the state itself.
    place = first + ogbench.BUTTON_SIZE * button + 1
    task_goals.add(np.array([place]), _BUTTON_TOLERANCE)


@gin.configurable
class GoalCube(GoalTask, ogbench.Cube):
  """Carrying cubes to the positions that the observation ends with.

  Bindings of `Cube`, but for `task`, hold here, too. Several cubes have their
  goals in random order. See `GoalTask`.
  """

  _make_goal = staticmethod(_cubes_goal)

  def _add_objects(self, task_goals: ObjectGoals) -> None:
    for number in range(self._num_cubes):
      task_goals.add(_cube_places(number), _CUBE_TOLERANCE)


@gin.configurable
class GoalScene(GoalTask, ogbench.Scene):
  """Arranging the scene as the observation's last seven numbers say.

  They are the cube's position (3), the buttons' states (2), and the positions
  of drawer and window. Bindings of `Scene`, but for `task`, hold here, too. See
  `GoalTask`.
  """

  _environment_class = GoalButtonEnvironment
  _make_goal = staticmethod(_scene_goal)

  def _add_objects(self, task_goals: ObjectGoals) -> None:
    task_goals.add(_cube_places(0), _CUBE_TOLERANCE)
    first = ogbench.ARM_SIZE + ogbench.CUBE_SIZE
    _add_buttons(task_goals, first, 2)
    drawer = first + 2 * ogbench.BUTTON_SIZE
    window = drawer + ogbench.SLIDE_SIZE
    task_goals.add(np.array([drawer]), _DRAWER_SCALE * _SLIDE_TOLERANCE)
    task_goals.add(np.array([window]), _WINDOW_SCALE * _SLIDE_TOLERANCE)


@gin.configurable
class GoalPuzzle(GoalTask, ogbench.Puzzle):
  """Lights Out: reaching the states that the observation ends with.

  Bindings of `Puzzle`, but for `task`, hold here, too. See `GoalTask`.
  """

  _environment_class = GoalButtonEnvironment
  _make_goal = staticmethod(_puzzle_goal)

  def _add_objects(self, task_goals: ObjectGoals) -> None:
    _add_buttons(task_goals, ogbench.ARM_SIZE, self._num_buttons)
