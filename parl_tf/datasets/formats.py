"""Detects the format of a dataset and opens it."""

import os
from typing import Tuple, Union

from parl_tf.datasets import concatenated
from parl_tf.datasets import d4rl
from parl_tf.datasets import demonstrations
from parl_tf.datasets import lerobot
from parl_tf.datasets import minari
from parl_tf.datasets import ogbench_npz
from parl_tf.datasets import rlds
from parl_tf.datasets import robomimic
from parl_tf.datasets import rows as rows_lib
from parl_tf.datasets import run_log

# Tried in this order. The last format accepts any HDF5 file.
_FORMATS: Tuple = (
    rlds,
    lerobot,
    minari,
    robomimic,
    ogbench_npz,
    run_log,
    d4rl,
)


def open_source(
    path: Union[str, os.PathLike], layout: rows_lib.Layout
) -> rows_lib.RowSource:
  """Opens a dataset of any supported format.

  Args:
    path: File or directory.
    layout: Expected contents, and how to read them.

  Raises:
    ImportError: If the format requires a package that is not installed.
    rows.DamagedFileError: If the format is unknown, the file is corrupt, or
      it lacks parts of a nested observation.
  """
  path = os.fspath(path)
  for module in _FORMATS:
    if module.recognises(path):
      source = module.open_source(path, layout)
      if layout.every_episode_succeeds:
        source = demonstrations.Source(source, layout)
      keys = layout.concatenated_keys
      if keys is None or rows_lib.OBSERVATIONS in source.columns:
        return source
      return concatenated.Source(source, keys)
  kind = 'directory' if os.path.isdir(path) else 'file'
  names = [module.NAME for module in _FORMATS]
  raise rows_lib.DamagedFileError(
      f'{path}: must be a complete dataset in a supported format, {names}; the'
      f' {kind} is corrupt or in another format.'
  )


def name_of(source: rows_lib.RowSource) -> str:
  """Returns the name of a source's format."""
  while isinstance(source, rows_lib.WrappedSource):
    source = source.wrapped
  (name,) = (
      module.NAME
      for module in _FORMATS
      if type(source).__module__ == module.__name__
  )
  return name
