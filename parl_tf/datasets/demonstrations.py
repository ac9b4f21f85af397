"""Episodes that all solve the task, without rewards or flags that say so.

Teleoperated datasets often have neither. The last step of each episode then
solves the task and terminates it, and the reward is sparse.
"""

from typing import Dict, Iterator, Optional

import numpy as np

from parl_tf.datasets import rows as rows_lib

_REPLACED = ('rewards', 'terminals', 'timeouts', 'success')


class Source(rows_lib.WrappedSource):
  """A dataset whose rewards and successes follow from the episode ends."""

  needs_successes = False

  def __init__(self, source: rows_lib.RowSource, layout: rows_lib.Layout):
    """Wraps a dataset with episode ends; its rewards are not used.

    Args:
      source: The dataset, which is closed with this one.
      layout: `reward_range` has the reward of the last step of an episode, its
        highest, and that of the others, its lowest; 1 and 0 if it is None.
    """
    super().__init__(source)
    self._low, self._high = layout.reward_range or (0.0, 1.0)
    self.columns: Dict[str, rows_lib.Column] = {
        name: column
        for name, column in source.columns.items()
        if name not in _REPLACED
    }
    ends = source.columns.get('timeouts', source.columns.get('terminals'))
    if ends is None or 'actions' not in source.columns:
      return  # `RowScan` reports what is missing.
    for name in ('rewards', 'terminals', 'success'):
      self.columns[name] = rows_lib.Column(
          source.columns['actions'].shape[:1],
          np.dtype(np.float32 if name == 'rewards' else np.bool_),
          ends.label,
      )

  def read(self) -> Iterator[rows_lib.Rows]:
    waiting: Optional[rows_lib.Rows] = None
    for rows in self.wrapped.read():
      if waiting is not None:
        yield self._with_successes(waiting, is_last=False)
      waiting = rows
    if waiting is not None:
      yield self._with_successes(waiting, is_last=True)

  def _with_successes(self, rows, is_last) -> rows_lib.Rows:
    is_end = np.zeros([len(rows['actions'])], np.bool_)
    is_end[rows_lib.find_ends(rows)] = True
    # Some files do not mark the end of their last episode.
    is_end[-1] |= is_last
    return {
        **{name: x for name, x in rows.items() if name not in _REPLACED},
        'rewards': np.where(is_end, self._high, self._low).astype(np.float32),
        'terminals': is_end,
        'success': is_end,
    }
