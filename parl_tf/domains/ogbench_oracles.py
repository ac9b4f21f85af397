"""Controllers of the OGBench manipulation tasks, based on OGBench's oracles.

OGBench (Park et al., 2025, arXiv:2410.20092) has a Markovian oracle for each
type of object, which moves one object and then lifts the arm. OGBench's own
scripts draw the next object at random, as `ogbench_play` does. The controllers
here choose it to solve the task.
"""

import abc
import functools
import itertools
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from parl_tf.domains import domain

# Position tolerances in metres of the controllers and of the tasks.
_TOLERANCE = 0.02
_TASK_TOLERANCE = 0.04
_PRESSED = -0.02  # Position in metres at which a button toggles.
# Heights in metres above which the arm is clear of an object, as in OGBench's
# oracles.
_CLEAR_HEIGHTS = {'cube': 0.16, 'button': 0.16, 'drawer': 0.18, 'window': 0.28}
# Position of the open drawer, and where to drop a cube into it, in metres. A
# goal beyond the table edge is in the drawer.
_OPEN_DRAWER = -0.16
_DROP_PLACE = np.array([0.33, -0.24, 0.066])
_TABLE_EDGE = -0.2
# Direction in which each joint moves its handle, and the button that locks it.
_AXES = {'drawer': np.array([0, -1, 0]), 'window': np.array([1, 0, 0])}
_LOCKS = {'drawer': 0, 'window': 1}


class OracleController(domain.Controller):
  """Selects actions with OGBench's oracles."""

  def __init__(self, min_norm: float, speed: float = 1.0):
    """Initializes the controller.

    Args:
      min_norm: Minimum length in metres of the position errors to which the
        oracles react; shorter errors are lengthened.
      speed: Factor on the changes of position and yaw.
    """
    self._min_norm = min_norm
    self._is_done = False
    self._factors = np.array([speed, speed, speed, speed, 1.0])

  def reset(self, seed: int) -> None:
    del seed  # The controller is deterministic.

  def action(self, time_step: Any, environment: Any) -> np.ndarray:
    del time_step
    action = self._decide(environment.gymnasium_environment)
    return (self._factors * action).astype(np.float32)

  @abc.abstractmethod
  def _decide(self, scene: Any) -> np.ndarray:
    """Returns the action `[5]` at full speed."""

  def _ask(
      self, oracle_ctor: Any, scene: Any, told: Mapping[str, Any], **options
  ) -> np.ndarray:
    """Returns the action of an oracle.

    Args:
      oracle_ctor: Constructor of the oracle.
      scene: OGBench environment.
      told: Target of the oracle by name. OGBench provides it only in its
        data-collection mode.
      **options: Further arguments of the oracle.
    """
    oracle = oracle_ctor(env=scene, min_norm=self._min_norm, **options)
    # The oracle's `reset` draws the final pose from NumPy's global generator.
    oracle._final_pos, oracle._final_yaw = self._end(scene)  # pylint: disable=protected-access
    oracle._step = 0  # pylint: disable=protected-access
    told = {f'privileged/{name}': value for name, value in told.items()}
    action = oracle.select_action(None, {**scene.compute_ob_info(), **told})
    self._is_done = oracle.done
    return action

  def _end(self, scene: Any) -> Tuple[np.ndarray, float]:
    """Returns the gripper's final position `[3]` and yaw of each move."""
    return np.mean(scene._arm_sampling_bounds, axis=0), 0.0  # pylint: disable=protected-access

  def _carry(
      self,
      scene: Any,
      cube: int,
      place: np.ndarray,
      # Success does not depend on a cube's yaw; the goal's yaw is 0.
      yaw: Sequence[float] = (0.0,),
  ) -> np.ndarray:
    """Returns the action that carries a cube to `place` [3] and `yaw` [1]."""
    # Imported lazily, because the import is slow.
    from ogbench.manipspace.oracles.markov import cube_markov  # pylint: disable=g-import-not-at-top

    told = {
        'target_block': cube,
        'target_block_pos': place,
        'target_block_yaw': yaw,
    }
    return self._ask(cube_markov.CubeMarkovOracle, scene, told)

  def _press(
      self, scene: Any, button: int, is_wanted: bool, **options
  ) -> np.ndarray:
    """Returns the action that presses a button; retreats if not `is_wanted`."""
    from ogbench.manipspace.oracles.markov import button_markov  # pylint: disable=g-import-not-at-top

    state = scene._cur_button_states[button]  # pylint: disable=protected-access
    is_down = scene.data.joint(f'buttonbox_joint_{button}').qpos[0] <= _PRESSED
    # A button that is down must be released before it can toggle again.
    target = 1 - state if is_wanted and not is_down else state
    site = scene._button_site_ids[button]  # pylint: disable=protected-access
    told = {
        'target_button': button,
        'target_button_state': target,
        'target_button_top_pos': scene.data.site_xpos[site].copy(),
    }
    oracle_ctor = button_markov.ButtonMarkovOracle
    return self._ask(oracle_ctor, scene, told, **options)

  def _pull(self, scene: Any, thing: str, way: float) -> np.ndarray:
    """Returns the action that moves the drawer or window by `way` metres."""
    from ogbench.manipspace.oracles.markov import drawer_markov  # pylint: disable=g-import-not-at-top
    from ogbench.manipspace.oracles.markov import window_markov  # pylint: disable=g-import-not-at-top

    oracle_ctor = {
        'drawer': drawer_markov.DrawerMarkovOracle,
        'window': window_markov.WindowMarkovOracle,
    }[thing]
    handle = scene.data.site(f'{thing}_handle_center').xpos
    told = {f'target_{thing}_handle_pos': handle + way * _AXES[thing]}
    return self._ask(oracle_ctor, scene, told)


class CubeController(OracleController):
  """Grasps a misplaced cube, carries it to its goal and drops it.

  The controller has no internal state, so after a disturbance it continues with
  the next necessary move.
  """

  def _decide(self, scene: Any) -> np.ndarray:
    # The first misplaced cube; cube 0 if all are in place.
    successes = scene._compute_successes()  # pylint: disable=protected-access
    cube = successes.index(False) if False in successes else 0
    place = scene._cube_target_mocap_ids[cube]  # pylint: disable=protected-access
    return self._carry(scene, cube, scene.data.mocap_pos[place].copy())


class _Move(NamedTuple):
  """A change of one object.

  Attributes:
    thing: `cube`, `button`, `drawer` or `window`.
    target: Index of the cube or button, or position of the slide in metres.
  """

  thing: str
  target: float


class MoveController(OracleController):
  """Makes one move after another.

  The only state is the current move. When the move is done or no longer useful,
  the controller switches to another one as soon as the arm is clear of the
  object.
  """

  def __init__(self, min_norm: float, speed: float = 1.0):
    super().__init__(min_norm, speed)
    self._present: Optional[_Move] = None

  def reset(self, seed: int) -> None:
    super().reset(seed)
    self._present = None

  def _decide(self, scene: Any) -> np.ndarray:
    moves = self._moves(scene)
    if moves and self._present not in moves and self._is_clear(scene):
      self._present = moves[0]
    if self._present is None:  # There is nothing to do yet.
      return np.zeros([5])
    return self._make(scene, self._present, self._present in moves)

  def _is_clear(self, scene: Any) -> bool:
    if self._present is None:
      return True
    return _gripper(scene)[2] > _CLEAR_HEIGHTS[self._present.thing]

  @abc.abstractmethod
  def _moves(self, scene: Any) -> Sequence[_Move]:
    """Returns the useful moves in the current state, best first."""

  @abc.abstractmethod
  def _make(self, scene: Any, move: _Move, is_wanted: bool) -> np.ndarray:
    """Returns the action that makes a move, or retreats from its object."""


class SceneController(MoveController):
  """Places the cube, then sets drawer and window, then the buttons.

  Opens the drawer before it moves a cube in or out, and unlocks whatever is
  locked.
  """

  def _moves(self, scene: Any) -> Sequence[_Move]:
    goal = scene.cur_task_info['goal']
    moves = []
    if not _is_cube_in_place(scene):
      if _goal_is_in_drawer(scene) or _cube_is_in_drawer(scene):
        moves.append(_Move('drawer', _OPEN_DRAWER))
      moves.append(_Move('cube', 0))
    moves.append(_Move('drawer', goal['drawer_pos']))
    moves.append(_Move('window', goal['window_pos']))
    states = scene._cur_button_states  # pylint: disable=protected-access
    wrong = np.flatnonzero(states != goal['button_states'])
    moves += [_Move('button', int(button)) for button in wrong]
    for move in moves:
      lock = _LOCKS.get(move.thing)
      if lock is None:
        return [move]
      if abs(slide_position(scene, move.thing) - move.target) > _TOLERANCE:
        return [move if states[lock] else _Move('button', lock)]
    return []

  def _make(self, scene: Any, move: _Move, is_wanted: bool) -> np.ndarray:
    if move.thing == 'button':
      return self._press(scene, int(move.target), is_wanted)
    if move.thing == 'cube':
      place = cube_position(scene, 0)
      if is_wanted:
        goal = scene.cur_task_info['goal']['block_xyzs'][0]
        place = _DROP_PLACE if _goal_is_in_drawer(scene) else goal
      return self._carry(scene, 0, place)
    way = move.target - slide_position(scene, move.thing) if is_wanted else 0.0
    return self._pull(scene, move.thing, way)


class PuzzleController(MoveController):
  """Presses as few buttons as possible, nearest first."""

  def _moves(self, scene: Any) -> Sequence[_Move]:
    wrong = scene._cur_button_states != scene._target_button_states  # pylint: disable=protected-access
    shape = (scene._num_rows, scene._num_cols)  # pylint: disable=protected-access
    buttons = fewest_presses(tuple(map(tuple, wrong.reshape(shape))))
    tops = scene.data.site_xpos[scene._button_site_ids]  # pylint: disable=protected-access
    distances = np.linalg.norm(tops - _gripper(scene), axis=1)
    return [
        _Move('button', button)
        for button in sorted(buttons, key=lambda button: distances[button])
    ]

  def _make(self, scene: Any, move: _Move, is_wanted: bool) -> np.ndarray:
    return self._press(
        scene, int(move.target), is_wanted, gripper_always_closed=True
    )


@functools.lru_cache(maxsize=1_024)
def fewest_presses(wrong: Tuple[Tuple[bool, ...], ...]) -> Tuple[int, ...]:
  """Finds the fewest button presses that solve Lights Out.

  Tries all presses of the first row. They determine those in each following
  row, which must correct the states of the row above.

  Args:
    wrong: Whether each button is in the wrong state, row by row.

  Returns:
    The buttons to press, numbered row by row, in any order.

  Raises:
    ValueError: If there is no solution.
  """
  num_columns = len(wrong[0])
  solutions = []
  for first in itertools.product((False, True), repeat=num_columns):
    # An extra row at the bottom absorbs the changes of the last row.
    states = np.array([*wrong, first])
    presses, present = [], np.array(first)
    states[-1] = False
    for row in range(len(wrong)):
      presses.append(present)
      states[row] ^= present
      states[row, 1:] ^= present[:-1]
      states[row, :-1] ^= present[1:]
      states[row + 1] ^= present
      present = states[row].copy()
    if not present.any():
      solutions.append(np.flatnonzero(presses))
  if not solutions:
    raise ValueError(f'`wrong` must be a solvable position, got {wrong}.')
  return tuple(min(solutions, key=len).tolist())


def _gripper(scene: Any) -> np.ndarray:
  """Returns the position `[3]` of the gripper in metres."""
  return scene.data.site_xpos[scene._pinch_site_id]  # pylint: disable=protected-access


def cube_position(scene: Any, cube: int) -> np.ndarray:
  """Returns the position `[3]` of a cube in metres."""
  return scene.data.joint(f'object_joint_{cube}').qpos[:3].copy()


def slide_position(scene: Any, thing: str) -> float:
  """Returns the position of the drawer or window in metres."""
  return float(scene.data.joint(f'{thing}_slide').qpos[0])


def _goal_is_in_drawer(scene: Any) -> bool:
  return scene.cur_task_info['goal']['block_xyzs'][0][1] < _TABLE_EDGE


def _cube_is_in_drawer(scene: Any) -> bool:
  return bool(scene._is_in_drawer(cube_position(scene, 0)))  # pylint: disable=protected-access


def _is_cube_in_place(scene: Any) -> bool:
  """Returns whether the cube needs no further carrying."""
  (goal,) = scene.cur_task_info['goal']['block_xyzs']
  offset = cube_position(scene, 0) - goal
  if not _goal_is_in_drawer(scene):
    return bool(np.linalg.norm(offset) <= _TOLERANCE)
  drawer = slide_position(scene, 'drawer')
  if not _cube_is_in_drawer(scene):
    return False
  if drawer - _OPEN_DRAWER <= _TOLERANCE:
    # Closing the drawer pushes the cube the rest of the way.
    return bool(np.linalg.norm(offset[[0, 2]]) <= _TOLERANCE)
  is_closed = abs(drawer) <= _TOLERANCE
  return not is_closed or bool(np.linalg.norm(offset) <= _TASK_TOLERANCE)
