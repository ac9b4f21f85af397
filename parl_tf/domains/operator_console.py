"""Operator input at the console: success, and the reset of the scene.

Provides hooks for `robot.RobotEnvironment` in runs started from a terminal.
"""

import os
import select
import sys

import gin

from parl_tf import types

_BYTES = 4_096  # Longer than a typed line.


@gin.configurable
def ask_operator(observation: types.Nest) -> bool:
  """Returns whether Enter was pressed since the last call.

  Does not wait. The operator presses Enter as soon as the task is solved, and
  the episode ends with success.

  Args:
    observation: Unused; part of the success detector interface.

  Raises:
    EOFError: If standard input has ended, so nobody can answer.
  """
  del observation
  file = sys.stdin.fileno()
  # `select` does not support file descriptors above 1,023.
  poll = select.poll()
  poll.register(file, select.POLLIN)
  if not poll.poll(0):
    return False
  # Bypasses Python's input buffer, which `poll` does not see.
  if not os.read(file, _BYTES):
    raise EOFError(
        '`ask_operator` needs a terminal as standard input, but standard input'
        ' has ended.'
    )
  return True


@gin.configurable
def ask_for_reset() -> None:
  """Waits until the operator has arranged the scene and pressed Enter.

  Raises:
    EOFError: If standard input has ended.
  """
  input('Arrange the scene for the next episode, then press Enter: ')
