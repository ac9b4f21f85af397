"""Episodes that all solve the task, without rewards or flags that say so.

Teleoperated datasets often have neither. The last step of each episode then
solves the task and terminates it, and the reward is sparse.
"""

from typing import Dict, Iterator

import numpy as np

from parl_tf.datasets import rows as rows_lib

_ENDS = ('terminals', 'timeouts')
_REPLACED = ('rewards', 'success', *_ENDS)


class Source(rows_lib.WrappedSource):
  """A dataset whose rewards and successes follow from the episode ends."""

  def __init__(self, source: rows_lib.RowSource, layout: rows_lib.Layout):
    """Wraps a dataset with episode ends; its rewards are not used.

    Args:
      source: The dataset, which is closed with this one.
      layout: `reward_range` has the reward of the last step of an episode, its
        highest, and that of the others, its lowest; 1 and 0 if it is None.
    """
    super().__init__(source)
    self._low, self._high = layout.reward_range or (0.0, 1.0)
    if source.is_play:
      self.faults = [
          *source.faults,
          f'{source.path}: `dataset.every_episode_succeeds` must be False for'
          ' play, whose tasks have rewards and successes of their own.',
      ]
    self.columns: Dict[str, rows_lib.Column] = {
        name: column
        for name, column in source.columns.items()
        if name not in _REPLACED
    }
    ends = [source.columns[x] for x in _ENDS if x in source.columns]
    if not ends:
      return  # `RowScan` reports that there are no `terminals`.
    # The file's own headers, so that `RowScan` checks them.
    self.columns.update(zip(_ENDS, ends))
    for name, dtype in (('rewards', np.float32), ('success', np.bool_)):
      shape = ends[0].shape[:1]
      self.columns[name] = rows_lib.Column(shape, np.dtype(dtype), name)

  def read(self) -> Iterator[rows_lib.Rows]:
    for rows in self.wrapped.read():
      for name in _ENDS:
        self._check_flags(rows, name)
      is_end = np.zeros([len(rows['actions'])], np.bool_)
      is_end[rows_lib.find_ends(rows)] = True
      kept = {name: x for name, x in rows.items() if name not in _REPLACED}
      if 'timeouts' in self.columns:
        kept['timeouts'] = np.zeros_like(is_end)
      yield {
          **kept,
          'rewards': np.where(is_end, self._high, self._low).astype(np.float32),
          'terminals': is_end,
          'success': is_end,
      }

  def _check_flags(self, rows: rows_lib.Rows, name: str) -> None:
    flags = rows.get(name, np.zeros([0]))
    is_wrong = (flags != 0) & (flags != 1)
    if np.any(is_wrong):
      raise rows_lib.DamagedFileError(
          f'{self.path}: `{self.wrapped.columns[name].label}` must be 0 or 1,'
          f' got {flags[is_wrong][0]}.'
      )
