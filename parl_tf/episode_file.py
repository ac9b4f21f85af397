"""The names of an episode log's files, and the errors of reading them.

The log of a run is written by `parl_tf.replay.episode_log` and read as a
dataset by `parl_tf.datasets.run_log`.
"""

import re
import tokenize
import zipfile
import zlib

PATTERN = re.compile(r'episode_(\d{8})_(-?\d+)\.npz')
"""Matches a file's name; the groups are its position and the episode's id."""

READ_ERRORS = (
    EOFError, KeyError, NotImplementedError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)
"""Exceptions that NumPy and zipfile raise on truncated or overwritten files."""


def name(position: int, episode_id: int) -> str:
  """Returns the name of the file of an episode.

  Args:
    position: Position in the log, from 0 on.
    episode_id: Identity of the episode.
  """
  return f'episode_{position:08d}_{episode_id}.npz'
