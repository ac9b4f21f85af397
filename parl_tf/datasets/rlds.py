"""Reads RLDS datasets written by TensorFlow Datasets, without depending on it.

A dataset is the directory of one version, with `dataset_info.json`,
`features.json` and shards `<name>-<split>.tfrecord-XXXXX-of-YYYYY`. Each record
is one episode: a `tf.train.Example` whose features concatenate the values of
all steps. Images are stored as encoded bytes.

The last step of an episode has only the observation after the last action.
T + 1 steps yield T rows, and the last row is terminal if the last step has
`is_terminal`. Unless the layout names observation parts, rows contain those
that are floating-point vectors or images of fixed shape; text, integers and
ragged parts are skipped.
"""

import os
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import gin
import numpy as np

from parl_tf.datasets import images
from parl_tf.datasets import json_file
from parl_tf.datasets import rows as rows_lib
from parl_tf.datasets import tfrecord

NAME = 'RLDS'

_INFO = 'dataset_info.json'
_FEATURES = 'features.json'
_OBSERVATION = 'steps/observation'
_REWARD = 'steps/reward'
_IS_FIRST, _IS_LAST = 'steps/is_first', 'steps/is_last'
_IS_TERMINAL = 'steps/is_terminal'
_FILE_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
# Decoded images are far larger than the record, so few rows are read at a time.
_READ_ROWS = 64


def recognises(path: str) -> bool:
  """Returns whether a path is the directory of a dataset version."""
  return all(os.path.isfile(os.path.join(path, x)) for x in (_INFO, _FEATURES))


@gin.configurable('rlds', denylist=['path', 'layout'])
def open_source(
    path: str,
    layout: rows_lib.Layout,
    *,
    split: str = 'train',
    last_reward_counts: Optional[bool] = None,
) -> rows_lib.RowSource:
  """Opens a dataset; see `formats.open_source`.

  Args:
    path: Directory of a dataset version.
    layout: Expected contents, and how to read them. `success_field` names step
      flags, each of which refers to the observation of its own step.
    split: Split to read.
    last_reward_counts: Whether to add the reward of an episode's last step to
      that of the step before. RLDS leaves this reward undefined, but many
      demonstration datasets set it to 1 if the task is solved. False ignores
      it. With None, a value other than 0 is a fault.
  """
  return _Source(path, layout, split, last_reward_counts)


class _Field(NamedTuple):
  """Description of a step feature.

  Attributes:
    key: Name in a record.
    shape: Shape of one step's value.
    dtype: Type in `features.json`; unsigned integers for images.
    is_image: Whether the value is stored as an encoded image.
  """

  key: str
  shape: Tuple[int, ...]
  dtype: np.dtype
  is_image: bool


class _Source(rows_lib.RowSource):
  """Reads one record at a time, in batches of rows."""

  def __init__(self, path, layout, split, last_reward_counts):
    self.path = path
    self.faults = []
    self._last_reward_counts = last_reward_counts
    with json_file.structure_checked(os.path.join(path, _INFO) + ':'):
      self._shards = self._find_shards(split)
    with json_file.structure_checked(os.path.join(path, _FEATURES) + ':'):
      found = dict(self._find_fields())
    self._fields = self._select(found, layout)
    self.columns = {}
    for name, field in self._fields.items():
      column = rows_lib.Column((None, *field.shape), field.dtype, field.key)
      self.columns[name] = column
      if name.split('/')[0] == rows_lib.OBSERVATIONS:
        self.columns[rows_lib.next_name(name)] = column
    self.columns['timeouts'] = rows_lib.Column(
        (None,), np.dtype(np.bool_), _IS_LAST
    )
    keys = {x.key: x for x in self._fields.values()}
    for key in (_IS_FIRST, _IS_LAST):
      flag = found.get(key)
      if flag is not None:
        keys[key] = flag
    self._features = {
        key: tfrecord.Feature(x.shape, x.dtype, x.is_image)
        for key, x in keys.items()
    }

  def close(self) -> None:
    """Does nothing; no file stays open between reads."""

  def read(self) -> Iterator[rows_lib.Rows]:
    for file, num_records in self._shards:
      number = 0
      for values in tfrecord.read(file, self._features, _FEATURES):
        yield from self._rows(values, f'{file}, record {number}')
        number += 1
      if number != num_records:
        raise rows_lib.DamagedFileError(
            f'{file}: `shardLengths` in {_INFO} must be the number of records,'
            f' {number}, got {num_records}.'
        )

  def _find_shards(self, split: str) -> List[Tuple[str, int]]:
    """Returns the file and the number of records of each shard."""
    info = json_file.read(os.path.join(self.path, _INFO))
    splits = {x.get('name'): x for x in info.get('splits', ())}
    if split not in splits:
      self._refuse(_INFO, 'splits', f'must contain {split!r} (`rlds.split`),'
                   f' got {list(splits)}')
    file_format = info.get('fileFormat', 'tfrecord')
    if file_format != 'tfrecord':
      self._refuse(_INFO, 'fileFormat', f"must be 'tfrecord', got"
                   f' {file_format!r}')
    lengths = [int(x) for x in splits[split].get('shardLengths', ())]
    if not sum(lengths):
      self._refuse(_INFO, 'shardLengths', f'must count at least one episode in'
                   f' split {split!r}, got {lengths}')
    template = splits[split].get('filepathTemplate') or _FILE_TEMPLATE
    files = [
        os.path.join(self.path, template.format(
            DATASET=info.get('name'), SPLIT=split, FILEFORMAT=file_format,
            SHARD_X_OF_Y=f'{i:05d}-of-{len(lengths):05d}',
            SHARD_INDEX=f'{i:05d}', NUM_SHARDS=f'{len(lengths):05d}',
        ))
        for i in range(len(lengths))
    ]
    missing = [x for x in files if not os.path.isfile(x)]
    if missing:
      self.faults.append(
          f'{missing[0]}: is one of {len(files)} files in `shardLengths` of'
          f' {_INFO} but missing; missing in total: {len(missing)}.'
      )
    return list(zip(files, lengths))

  def _find_fields(self) -> Iterator[Tuple[str, Optional[_Field]]]:
    """Yields the features of the steps; None for unsupported ones."""
    features = json_file.read(os.path.join(self.path, _FEATURES))
    for key in ('featuresDict', 'features', 'steps', 'sequence', 'feature'):
      if key not in features:
        self._refuse(_FEATURES, 'steps', 'must be an RLDS dataset of steps, but'
                     f' `{key}` is missing')
      features = features[key]
    yield from _walk(features, 'steps')

  def _select(self, found, layout) -> Mapping[str, _Field]:
    """Returns the fields to read, keyed by column."""
    keys = {'actions': 'steps/action', 'terminals': _IS_TERMINAL}
    if not layout.every_episode_succeeds:
      keys['rewards'] = _REWARD
    if layout.success_field is not None:
      keys['success'] = f'steps/{layout.success_field.removeprefix("steps/")}'
    if _OBSERVATION in found:
      keys[rows_lib.OBSERVATIONS] = _OBSERVATION
    else:
      start = len(_OBSERVATION) + 1
      parts = layout.observation_keys
      if parts is None:
        parts = [x[start:] for x in rows_lib.part_names(found, _OBSERVATION)
                 if _is_observable(found[x])]
      if not parts:
        self._refuse(_FEATURES, _OBSERVATION, 'must have at least one'
                     ' floating-point vector or image of fixed shape, got none')
      # If the layout expects a single array, a single part is not nested.
      wanted = layout.observation_shape
      is_nest = len(parts) > 1 or wanted is None or isinstance(wanted, Mapping)
      for part in parts:
        suffix = f'/{part}' if is_nest else ''
        keys[rows_lib.OBSERVATIONS + suffix] = f'{_OBSERVATION}/{part}'
    for key in keys.values():
      if found.get(key) is None:
        seen = 'has another type' if key in found else 'is missing'
        hint = rows_lib.DEMONSTRATIONS_HINT if key == _REWARD else ''
        self._refuse(_FEATURES, key, 'must have unencoded numbers or images of'
                     f' fixed shape, but {seen}; the file has'
                     f' {sorted(x for x in found if found[x])}{hint}')
    return {name: found[key] for name, key in keys.items()}

  def _rows(
      self, values: Mapping[str, np.ndarray], where: str
  ) -> Iterator[rows_lib.Rows]:
    """Yields the rows of one record."""
    num_rows = _count_steps(values, where) - 1
    _check_flags(values, where)
    rewards = None
    if 'rewards' in self._fields:
      rewards = self._rewards(values[_REWARD], where)
    for start in range(0, num_rows, _READ_ROWS):
      end = min(start + _READ_ROWS, num_rows)
      rows = {'timeouts': np.zeros([end - start], np.bool_)}
      for name, field in self._fields.items():
        steps = slice(start, end + 1)
        array = _decode(values[field.key][steps], field, start, where)
        if name.split('/')[0] == rows_lib.OBSERVATIONS:
          rows[rows_lib.next_name(name)] = array[1:]
        # Each flag refers to the observation of its own step.
        is_flag = name in rows_lib.FLAGS
        rows[name] = array[1:] if is_flag else array[:-1]
      if rewards is not None:
        rows['rewards'] = rewards[start:end]
      if end == num_rows:
        rows['timeouts'][-1] = not np.any(rows['terminals'][-1])
      yield rows_lib.flatten_scalars(rows)

  def _rewards(self, rewards: np.ndarray, where: str) -> np.ndarray:
    """Returns the rewards `[T]` of all steps except the last."""
    if self._last_reward_counts:
      return np.append(rewards[:-2], rewards[-2] + rewards[-1])
    if self._last_reward_counts is None and rewards[-1]:
      raise rows_lib.DamagedFileError(
          f'{where}: `{_REWARD}` must be 0 in the last step, where RLDS leaves'
          f' it undefined, got {rewards[-1]}; set `rlds.last_reward_counts` to'
          ' True to add it to the step before, or to False to ignore it.'
      )
    return rewards[:-1]

  def _refuse(self, file: str, field: str, message: str) -> None:
    path = os.path.join(self.path, file)
    raise rows_lib.DamagedFileError(f'{path}: `{field}` {message}.')


def _walk(
    feature: Mapping[str, Any], key: str
) -> Iterator[Tuple[str, Optional[_Field]]]:
  """Yields the leaves of a feature description; None for unsupported ones."""
  if 'featuresDict' in feature:
    for name, part in feature['featuresDict']['features'].items():
      yield from _walk(part, f'{key}/{name}')
    return
  is_image = 'image' in feature
  described = feature.get('image') or feature.get('tensor') or {}
  shape = [int(x) for x in described.get('shape', {}).get('dimensions', ())]
  try:
    dtype = np.dtype(described.get('dtype', 'object'))
  except TypeError:  # Text.
    dtype = np.dtype(object)
  is_readable = (
      dtype.kind in ('u' if is_image else 'biuf')
      and all(x > 0 for x in shape)
      and (is_image or described.get('encoding', 'none') == 'none')
  )
  yield key, (
      _Field(key, tuple(shape), dtype, is_image) if is_readable else None
  )


def _is_observable(field: Optional[_Field]) -> bool:
  """Returns whether an observation part is read by default."""
  if field is None or not field.shape:
    return False
  return field.dtype.kind == 'f' or (
      field.dtype == np.uint8 and len(field.shape) > 1
  )


def _count_steps(values: Mapping[str, np.ndarray], where: str) -> int:
  """Returns the number of steps in a record, including the last one."""
  num_steps = len(values[_IS_TERMINAL])
  for key, value in values.items():
    if len(value) != num_steps:
      raise rows_lib.DamagedFileError(
          f'{where}: `{key}` must have {num_steps} steps, as `{_IS_TERMINAL}`'
          f' does, got {len(value)}.'
      )
  if num_steps < 2:
    raise rows_lib.DamagedFileError(
        f'{where}: `steps` must have at least two entries, the last of which'
        f' holds only an observation, got {num_steps}.'
    )
  return num_steps


def _check_flags(values: Mapping[str, np.ndarray], where: str) -> None:
  """Checks that the first, last and terminal flags match the record."""
  last = len(values[_IS_TERMINAL]) - 1
  for key, wanted in (
      (_IS_FIRST, ([0],)), (_IS_LAST, ([last],)), (_IS_TERMINAL, ([], [last]))
  ):
    if key not in values:
      continue
    steps = np.flatnonzero(values[key]).tolist()
    if steps not in wanted:
      raise rows_lib.DamagedFileError(
          f'{where}: `{key}` must be set at steps'
          f' {" or ".join(str(x) for x in wanted)} of 0 to {last}, got'
          f' {steps}.'
      )


def _decode(
    values: np.ndarray, field: _Field, start: int, where: str
) -> np.ndarray:
  """Decodes the values of consecutive steps, the first of which is `start`."""
  if not field.is_image:
    return rows_lib.cast_exactly(values, field.dtype, f'{where}: `{field.key}`')
  result = np.empty([len(values), *field.shape], field.dtype)
  for i, value in enumerate(values):
    place = f'{where}, `{field.key}` of step {start + i}'
    result[i] = images.decode(value, field.shape, field.dtype, place)
  return result
