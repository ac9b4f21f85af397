"""Validates a dataset of any format and summarizes its contents."""

import os
from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from parl_tf.datasets import episode_ends
from parl_tf.datasets import formats
from parl_tf.datasets import row_order
from parl_tf.datasets import row_scan
from parl_tf.datasets import rows as rows_lib

# Of the bounds; actions that never exceed it may have another unit.
_SMALL_SHARE = 0.05


class Inspection(NamedTuple):
  """Faults and summary statistics of a dataset.

  Attributes:
    faults: One message for each fault; empty if the dataset is valid. If the
      dataset cannot be read to its end, the statistics cover the rows read.
    format: Name of the format; empty if it was not recognized.
    shapes: Shape of each column, keyed by its name in the file.
    num_rows: Number of rows read.
    num_terminals: Number of terminal rows.
    num_timeouts: Number of rows that end an episode without terminating it.
    num_trailing_rows: Number of rows after the last episode end. They count as
      one more episode.
    lengths: Steps of each episode, including the trailing rows.
    returns: Undiscounted raw return of each episode.
    successes: Whether each episode contains a success.
    end_hints: What seems wrong with the ends of episodes: missing time-outs,
      rows out of order, or time-outs that are terminal. Empty if nothing does.
    success_hint: If no episode does, why, and the binding that would count some
      as successes; else empty.
    action_hint: If the actions seem to have the task's own units although the
      layout says otherwise, the binding to consider; else empty.
    reward_range: Minimum and maximum reward; None if there are no rows.
    observation_ranges: Minimum and maximum of each entry `[D]`, keyed by the
      column's name in the file; for images, scalars over all pixels.
    action_range: Minimum and maximum of each action entry `[A]`, as stored.
    saturation: Fraction of action entries at or beyond the bounds.
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
  end_hints: Sequence[str] = ()
  success_hint: str = ''
  action_hint: str = ''
  reward_range: Optional[Tuple[float, float]] = None
  observation_ranges: Mapping[str, Tuple[np.ndarray, np.ndarray]] = {}
  action_range: Optional[Tuple[np.ndarray, np.ndarray]] = None
  saturation: float = 0.0


def inspect(
    path: Union[str, os.PathLike], layout: Optional[rows_lib.Layout] = None
) -> Inspection:
  """Reads a whole dataset and reports each kind of fault once.

  Args:
    path: File or directory.
    layout: Expected contents, and how to read them; None uses the default
      layout.

  Raises:
    ImportError: If the format requires a package that is not installed.
    ValueError: If the layout's action bounds are invalid.
  """
  layout = layout or rows_lib.Layout()
  if not os.path.exists(path):
    return Inspection([f'{path}: there is no such file.'])
  try:
    source = formats.open_source(path, layout)
  except rows_lib.DamagedFileError as error:
    return Inspection([str(error)])
  with source:
    scan = row_scan.RowScan(source.path, source.fit(layout))
    ends = episode_ends.EpisodeEnds(layout, source.columns)
    order = row_order.RowOrder(source.columns)
    faults = list(source.faults) + scan.header_faults(
        source.columns, source.found
    )
    if not faults:
      try:
        for rows in source.read():
          scan.add(rows)
          ends.add(rows)
          order.add(rows)
        scan.finish()
      except rows_lib.DamagedFileError as error:
        scan.faults.append(str(error))
      faults = scan.faults
    figures = scan.figures()
    if not faults and not figures['action_hint']:
      figures['action_hint'] = _hint_of_small(
          source.fit(layout).action_bounds, figures['action_range']
      )
    return Inspection(
        faults=faults,
        end_hints=[] if faults else [*ends.hints(), *order.hints()],
        format=formats.name_of(source),
        shapes={
            x.label: tuple(figures['num_rows'] if n is None else n
                           for n in x.shape)
            for x in source.columns.values()
        },
        **figures,
    )


def _hint_of_small(bounds, action_range) -> str:
  """Returns a hint if the actions seem to have a smaller unit."""
  if action_range is None:
    return ''
  greatest = np.max(np.abs(action_range))
  share = greatest / np.max(np.abs(bounds))
  if not 0.0 < share < _SMALL_SHARE:
    return ''
  return (
      f'no action exceeds {greatest:.2g}, {share:.1%} of the bounds'
      f' {list(bounds)}. If the file has other units, bind its bounds as'
      ' `dataset.action_bounds`.'
  )
