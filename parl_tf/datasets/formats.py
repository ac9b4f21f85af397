"""Which format a data set has, and its reader."""

import os
from typing import Tuple

from parl_tf.datasets import d4rl
from parl_tf.datasets import lerobot
from parl_tf.datasets import minari
from parl_tf.datasets import ogbench_npz
from parl_tf.datasets import rlds
from parl_tf.datasets import robomimic
from parl_tf.datasets import rows as rows_lib
from parl_tf.datasets import run_log

# Asked in this order; the last one takes any HDF5 file.
_FORMATS: Tuple = (
    rlds,
    lerobot,
    minari,
    robomimic,
    ogbench_npz,
    run_log,
    d4rl,
)


def open_source(path: str, layout: rows_lib.Layout) -> rows_lib.RowSource:
  """Opens a data set, whichever format it has.

  Args:
    path: File or directory.
    layout: What is to be read of it.

  Raises:
    rows.DamagedFileError: If no format is recognised, or the file is damaged.
  """
  for module in _FORMATS:
    if module.recognises(path):
      return module.open_source(path, layout)
  kind = 'directory' if os.path.isdir(path) else 'file'
  names = [module.NAME for module in _FORMATS]
  raise rows_lib.DamagedFileError(
      f'{path}: must be a whole data set of a known format, {names}; the'
      f' {kind} is damaged or of another format.'
  )


def name_of(source: rows_lib.RowSource) -> str:
  """Returns the name of the format that a source has."""
  (name,) = (
      module.NAME
      for module in _FORMATS
      if type(source).__module__ == module.__name__
  )
  return name
