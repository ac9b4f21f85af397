"""Operator input at the console: success, and the reset of the scene.

Provides hooks for `RobotEnvironment` in runs started from a terminal.
"""

import functools
import os
import select
import sys
from typing import List

from absl import logging
import gin

from parl_tf import types
from parl_tf.domains import domain

_BYTES = 4_096  # Longer than a typed line.
_READY, _DISCARD, _FAIL = 'go', b'd', b'f'
_ENDED = (
    'The operator needs a terminal as standard input, but standard input has'
    ' ended.'
)


@gin.configurable
def ask_operator(observation: types.Nest) -> bool:
  """Returns whether Enter alone was pressed since the last call.

  Does not wait. The operator presses Enter as soon as the task is solved, and
  the episode ends with success. An "f" and Enter ends it without success, as
  its time limit does. A "d" and Enter discards it, and it is repeated.

  Args:
    observation: Unused; part of the success detector interface.

  Raises:
    EpisodeFailedError: If the operator ends the episode without success.
    EpisodeLostError: If the operator discards the episode.
    EOFError: If standard input has ended, so nobody can answer.
  """
  del observation
  _explain_keys()
  lines = [line.strip() for line in _typed_lines()]
  if _DISCARD in lines:
    raise domain.EpisodeLostError('The operator discarded the episode.')
  if _FAIL in lines:
    raise domain.EpisodeFailedError('The operator ended the episode.')
  return b'' in lines


@gin.configurable
def ask_for_reset() -> None:
  """Waits until the operator has arranged the scene and typed "go".

  An answer of its own, after what was typed earlier has been dropped: a second
  or late Enter that meant success must not move the arm.

  Raises:
    EOFError: If standard input has ended.
  """
  _typed_lines()
  prompt = (
      'Arrange the scene for the next episode, then type "go" and press Enter: '
  )
  try:
    while input(prompt).strip() != _READY:
      pass
  except EOFError as error:
    raise EOFError(_ENDED) from error


@functools.lru_cache(maxsize=None)
def _explain_keys() -> None:
  """Says once what the operator may type."""
  logging.info(
      'Robot: press Enter when the task is solved; "f" and Enter end the'
      ' episode without success, "d" and Enter discard it.'
  )


def _typed_lines() -> List[bytes]:
  """Returns the lines that were typed and not yet read, without waiting."""
  file = sys.stdin.fileno()
  # `select` does not support file descriptors above 1,023.
  poll = select.poll()
  poll.register(file, select.POLLIN)
  typed = b''
  while poll.poll(0):
    # Bypasses Python's input buffer, which `poll` does not see.
    more = os.read(file, _BYTES)
    if not more:
      raise EOFError(_ENDED)
    typed += more
  return typed.splitlines()
