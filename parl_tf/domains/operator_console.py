"""An operator at the console: says that the task is solved, lays out the scene.

Hooks of `robot.RobotEnvironment`, for a run that is started in a terminal.
"""

import os
import select
import sys

import gin

from parl_tf import types

_BYTES = 4_096  # More than a line typed by hand.


@gin.configurable
def ask_operator(observation: types.Nest) -> bool:
  """Returns whether Enter was pressed since it was last asked.

  It does not wait: the operator presses Enter as soon as the task is solved,
  and the episode ends with success.

  Args:
    observation: Not looked at; a success detector is given it.

  Raises:
    EOFError: If the standard input is at its end: nobody could answer.
  """
  del observation
  file = sys.stdin.fileno()
  # Not `select`, which takes no descriptor beyond 1,023.
  poll = select.poll()
  poll.register(file, select.POLLIN)
  if not poll.poll(0):
    return False
  # Past Python's buffer, which `poll` does not know of.
  if not os.read(file, _BYTES):
    raise EOFError(
        '`ask_operator` must have a terminal as its standard input, but that is'
        ' at its end.'
    )
  return True


@gin.configurable
def ask_for_reset() -> None:
  """Waits until the operator has arranged the scene and pressed Enter.

  Raises:
    EOFError: If the standard input is at its end.
  """
  input('Arrange the scene for an episode, then press Enter: ')
