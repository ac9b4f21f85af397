"""Looks through a data set of any format and names every fault in it."""

import os
from typing import List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from parl_tf.datasets import formats
from parl_tf.datasets import row_scan
from parl_tf.datasets import rows as rows_lib


class Inspection(NamedTuple):
  """What a data set holds.

  Attributes:
    faults: One message each, empty for a file without fault. Where the file
      cannot be read to its end, the figures count what was read.
    format: Name of the format, empty where none was recognised.
    shapes: Shape of each column, by its name in the file.
    num_rows: Rows read.
    num_terminals: Rows that end the task.
    num_timeouts: Rows that end an episode otherwise.
    num_trailing_rows: Rows after the last end, an episode of their own.
    lengths: Steps of each episode, trailing rows included.
    returns: Undiscounted raw return of each episode.
    successes: Whether each episode has a success.
    reward_range: Least and greatest reward; None without rows.
    observation_ranges: Least and greatest value of each entry `[D]` by column;
      of a picture, of all its entries.
    action_range: Likewise, as in the file.
    saturation: Share of action entries at or beyond the bounds.
  """

  faults: List[str]
  format: str = ''
  shapes: Mapping[str, Tuple[int, ...]] = {}
  num_rows: int = 0
  num_terminals: int = 0
  num_timeouts: int = 0
  num_trailing_rows: int = 0
  lengths: np.ndarray = np.zeros([0], np.int64)
  returns: np.ndarray = np.zeros([0])
  successes: np.ndarray = np.zeros([0], np.bool_)
  reward_range: Optional[Tuple[float, float]] = None
  observation_ranges: Mapping[str, Tuple[np.ndarray, np.ndarray]] = {}
  action_range: Optional[Tuple[np.ndarray, np.ndarray]] = None
  saturation: float = 0.0


def inspect(
    path: str, layout: Optional[rows_lib.Layout] = None
) -> Inspection:
  """Reads a data set from end to end and names every kind of fault once."""
  layout = layout or rows_lib.Layout()
  if not os.path.exists(path):
    return Inspection([f'{path}: there is no such file.'])
  try:
    source = formats.open_source(path, layout)
  except rows_lib.DamagedFileError as error:
    return Inspection([str(error)])
  scan = row_scan.RowScan(path, layout)
  with source:
    faults = list(source.faults) + scan.header_faults(source.columns)
    if not faults:
      try:
        for rows in source.read():
          scan.add(rows)
        scan.finish()
      except rows_lib.DamagedFileError as error:
        scan.faults.append(str(error))
      faults = scan.faults
    figures = scan.figures()
    return Inspection(
        faults=faults,
        format=formats.name_of(source),
        shapes={
            x.label: tuple(figures['num_rows'] if n is None else n
                           for n in x.shape)
            for x in source.columns.values()
        },
        **figures,
    )
