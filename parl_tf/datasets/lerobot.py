"""Reads LeRobot datasets, versions 2.0, 2.1 and 3.0, without torch.

A dataset is a directory, which `meta/info.json` describes. Parquet files have
one row per frame; in version 2 each contains one episode, in version 3 several.
Images are in the Parquet files or in MP4 files. A frame is an observation and
the action taken after it. The observation after an episode's last action is not
stored.

  reward    `next.reward`. Without it, 1 where `next.success` is set, else 0.
            Demonstrations often have neither, which is a fault unless
            `every_episode_succeeds` is set or `success_field` names other
            flags.
  success   `next.success` or `success_field`. Without them, success follows
            from the reward.
  terminal  Set at the last frame if it is a success and `next.done` is set or
            does not exist. Otherwise the episode ends with a timeout. In
            datasets that the library wrote, `next.done` alone decides.

`observation.<key>` becomes `observations/<key>`, for all `observation_keys` or,
without them, for all vectors and images. A single part becomes `observations`.
If the layout expects a single array, or does not say and the library wrote the
dataset from one, only its `concatenated_keys` are read or, where some of them
are missing, `observation.state`. Only the requested videos are decoded. Frames
are matched by index; video frames after the last row are ignored.
"""

import itertools
import math
import os
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np

from parl_tf.datasets import images
from parl_tf.datasets import lerobot_metadata
from parl_tf.datasets import rows as rows_lib

NAME = 'LeRobot'

_PREFIX = 'observation.'
_REWARD, _SUCCESS, _DONE = 'next.reward', 'next.success', 'next.done'
_EPISODE, _FRAME = 'episode_index', 'frame_index'
_TIME = 'timestamp'
# Images take far more memory per row than numbers.
_READ_IMAGES, _READ_NUMBERS = 64, 4_096


def recognises(path: str) -> bool:
  """Returns whether a path is a dataset directory."""
  return os.path.isfile(os.path.join(path, lerobot_metadata.INFO))


def open_source(path: str, layout: rows_lib.Layout) -> rows_lib.RowSource:
  """Opens a dataset; see `formats.open_source`.

  Raises:
    ImportError: If pyarrow is not installed.
  """
  return _Source(path, layout)


class _Source(rows_lib.RowSource):
  """Reads the Parquet files one after another, in batches of rows."""

  def __init__(self, path, layout):
    self.path = path
    self._layout = layout
    self._pyarrow = lerobot_metadata.import_pyarrow()
    metadata = lerobot_metadata.Metadata(path)
    self._rate = metadata.rate
    self._has_done = (
        _DONE in metadata.features and not layout.every_episode_succeeds
    )
    self.needs_successes = not (self._has_done and metadata.done_is_terminal)
    self._features = self._select(metadata)
    kinds = {x.key: x.kind for x in self._features.values()}
    video_keys = [x for x, y in kinds.items() if y == lerobot_metadata.VIDEO]
    self._stored_keys = [x for x in kinds if x not in video_keys]
    self._stored_keys += [_EPISODE, _FRAME]
    self._stored_keys += [_DONE] if self._has_done else []
    self._stored_keys += [_TIME] if video_keys else []
    self._has_images = set(kinds.values()) != {'numbers'}
    self._episodes = metadata.find_episodes(video_keys)
    self.faults = list(metadata.find_faults(self._episodes))
    self.columns = self._describe()

  def close(self) -> None:
    """Does nothing; no file stays open between reads."""

  def read(self) -> Iterator[rows_lib.Rows]:
    videos: Dict[str, images.Video] = {}
    try:
      for file, episodes in itertools.groupby(self._episodes, lambda x: x.file):
        for episode, start, batch in self._batches(file, list(episodes)):
          yield self._rows(episode, start, batch, videos)
    finally:
      for video in videos.values():
        video.close()

  def _select(
      self, metadata: lerobot_metadata.Metadata
  ) -> Dict[str, lerobot_metadata.Feature]:
    """Returns the features to read, keyed by column."""
    layout, found = self._layout, metadata.features
    keys = {'actions': 'action'}
    if not layout.every_episode_succeeds:
      if layout.success_field or _SUCCESS in found:
        keys['success'] = layout.success_field or _SUCCESS
      if _REWARD in found or 'success' not in keys:
        keys['rewards'] = _REWARD
    is_nest = isinstance(layout.observation_shape, Mapping)
    parts = layout.observation_keys
    if parts is None:
      parts = [x[len(_PREFIX):] for x, y in found.items()
               if x.startswith(_PREFIX) and (y.dtype.kind == 'f'
                                             or y.kind != 'numbers')]
      wants_one = not is_nest
      if layout.observation_shape is None:
        wants_one = metadata.has_one_observation
      concatenated = layout.concatenated_keys or ()
      if concatenated and set(concatenated) <= set(parts):
        parts = concatenated
      elif wants_one and 'state' in parts:
        parts = ['state']
    if not parts:
      self._refuse(f'must have a vector or image `{_PREFIX}<key>`, got'
                   f' {sorted(found)}')
    is_nest = is_nest or len(parts) > 1
    for part in parts:
      suffix = f'/{part}' if is_nest else ''
      keys[rows_lib.OBSERVATIONS + suffix] = _PREFIX + part
    for key in keys.values():
      if key not in found:
        choice = ending = ''
        if key == _REWARD:
          choice, ending = f' or `{_SUCCESS}`', rows_lib.DEMONSTRATIONS_HINT
        self._refuse(f'must have `{key}`{choice} of numbers or images, got'
                     f' {sorted(found)}{ending}')
    return {name: found[key] for name, key in keys.items()}

  def _describe(self) -> Dict[str, rows_lib.Column]:
    num_rows = sum(x.length for x in self._episodes)
    columns = {
        name: rows_lib.Column((num_rows, *x.shape), x.dtype, x.key)
        for name, x in self._features.items()
    }
    if 'rewards' not in columns and 'success' in columns:
      columns['rewards'] = columns['success']._replace(
          dtype=np.dtype(np.float32)
      )
    for name, dtype, label in (
        ('terminals', np.bool_, _DONE), ('timeouts', np.bool_, _DONE),
        ('episode_ids', np.int64, _EPISODE),
    ):
      columns[name] = rows_lib.Column((num_rows,), np.dtype(dtype), label)
    return columns

  def _batches(
      self, file: str, episodes: List[lerobot_metadata.Episode]
  ) -> Iterator[Tuple[lerobot_metadata.Episode, int, Any]]:
    """Yields an episode, the first frame index of a batch, and the batch."""
    size = _READ_IMAGES if self._has_images else _READ_NUMBERS
    keys = list(dict.fromkeys(self._stored_keys))
    with lerobot_metadata.damage_named(
        file
    ), self._pyarrow.parquet.ParquetFile(
        file, page_checksum_verification=True
    ) as table:
      names = table.schema_arrow.names
      for key in keys:
        if key not in names:
          raise rows_lib.DamagedFileError(
              f'{file}: must have the column `{key}`, got {names}.'
          )
      num_rows = sum(x.length for x in episodes)
      if table.metadata.num_rows != num_rows:
        numbers = f'{episodes[0].number} to {episodes[-1].number}'
        raise rows_lib.DamagedFileError(
            f'{file}: must have {num_rows} rows, the total `length` of the'
            f' episodes {numbers} in {lerobot_metadata.EPISODES}, got'
            f' {table.metadata.num_rows}.'
        )
      place = start = 0
      for batch in table.iter_batches(size, columns=keys):
        while batch.num_rows:
          if start == episodes[place].length:
            place, start = place + 1, 0
          piece = batch.slice(0, episodes[place].length - start)
          yield episodes[place], start, piece
          start += piece.num_rows
          batch = batch.slice(piece.num_rows)

  def _rows(self, episode, start, batch, videos) -> rows_lib.Rows:
    """Returns rows of one episode; `start` is the frame index of the first."""
    where = f'{episode.file}, episode {episode.number}'
    frames = start + np.arange(batch.num_rows)
    self._check_frames(episode, frames, batch, where)
    rows = {}
    for name, feature in self._features.items():
      if feature.kind == lerobot_metadata.VIDEO:
        video = self._find_video(episode, feature, videos)
        _, first = episode.videos[feature.key]
        rows[name] = video.read(first + start, len(frames), where)
      elif feature.kind == lerobot_metadata.IMAGE:
        rows[name] = _decode(batch.column(feature.key), feature, start, where)
      else:
        rows[name] = self._numbers(batch, feature, where)
    rows = rows_lib.flatten_scalars(rows)
    if 'rewards' not in rows and 'success' in rows:
      rows['rewards'] = rows['success'].astype(np.float32)
    is_last = frames == episode.length - 1
    is_done = is_last
    if self._has_done:
      is_done = self._scalars(batch, _DONE, np.bool_, where)
      if np.any(is_done & ~is_last):
        frame = frames[is_done & ~is_last][0]
        raise rows_lib.DamagedFileError(
            f'{where}: `{_DONE}` must be set only at the last frame, but is'
            f' set at frame {frame} of {episode.length}.'
        )
    is_terminal = is_done
    if self.needs_successes and not self._layout.every_episode_succeeds:
      is_terminal = is_done & rows_lib.find_successes(rows, self._layout)
    return {
        **rows,
        'terminals': is_terminal,
        'timeouts': is_last & ~is_terminal,
        'episode_ids': np.full([len(frames)], episode.number, np.int64),
    }

  def _find_video(self, episode, feature, videos) -> images.Video:
    """Returns the video of an episode, reusing the open one if possible."""
    file, _ = episode.videos[feature.key]
    video = videos.get(feature.key)
    if video is None or video.file != file:
      if video is not None:
        video.close()
      video = videos[feature.key] = images.Video(
          file, feature.shape, self._rate
      )
    return video

  def _check_frames(self, episode, frames, batch, where) -> None:
    """Checks that the rows are the frames described by the metadata."""
    expected = {_EPISODE: np.full_like(frames, episode.number), _FRAME: frames}
    if _TIME in self._stored_keys:
      expected[_TIME] = frames  # LeRobot matches video frames by timestamp.
    for key, wanted in expected.items():
      seen = self._scalars(batch, key, np.float64, where)
      rate = self._rate if key == _TIME else 1.0
      is_wrong = np.round(seen * rate) != wanted
      if np.any(is_wrong):
        i = np.flatnonzero(is_wrong)[0]
        raise rows_lib.DamagedFileError(
            f'{where}: `{key}` must be {wanted[i] / rate:g} at frame'
            f' {frames[i]}, according to {lerobot_metadata.EPISODES} and `fps`,'
            f' got {seen[i]:g}.'
        )

  def _scalars(self, batch, key, dtype, where) -> np.ndarray:
    feature = lerobot_metadata.Feature(key, 'numbers', (), np.dtype(dtype))
    return self._numbers(batch, feature, where)

  def _numbers(self, batch, feature, where) -> np.ndarray:
    """Returns a column `[rows, ...]`, stored as nested lists or flat."""
    types = self._pyarrow.types
    array = batch.column(feature.key)
    # Of several dimensions, where the library `datasets` has been imported.
    array = getattr(array, 'storage', array)
    is_even = True
    while types.is_nested(array.type) and not types.is_struct(array.type):
      if not types.is_fixed_size_list(array.type):
        lengths = np.diff(array.offsets.to_numpy())
        is_even &= not len(lengths) or lengths.min() == lengths.max()
      array = array.flatten()
    is_number = (
        types.is_integer(array.type) or types.is_floating(array.type)
        or types.is_boolean(array.type)
    )
    size = batch.num_rows * math.prod(feature.shape)
    if not is_number or not is_even or array.null_count or len(array) != size:
      raise rows_lib.DamagedFileError(
          f'{where}: `{feature.key}` must have numbers of shape'
          f' {feature.shape} in each row, according to {lerobot_metadata.INFO},'
          f' got {len(array)} values of type {array.type} in'
          f' {batch.num_rows} rows.'
      )
    values = rows_lib.cast_exactly(
        array.to_numpy(zero_copy_only=False),
        feature.dtype,
        f'{where}: `{feature.key}`',
    )
    return values.reshape([batch.num_rows, *feature.shape])

  def _refuse(self, message: str) -> None:
    path = os.path.join(self.path, lerobot_metadata.INFO)
    raise rows_lib.DamagedFileError(f'{path}: `features` {message}.')


def _decode(column, feature, start: int, where: str) -> np.ndarray:
  """Decodes a column of encoded images."""
  result = np.empty([len(column), *feature.shape], np.uint8)
  for i, entry in enumerate(column):
    entry = entry.as_py()
    encoded = entry.get('bytes') if isinstance(entry, dict) else entry
    place = f'{where}, `{feature.key}` of frame {start + i}'
    if not isinstance(encoded, bytes):
      raise rows_lib.DamagedFileError(
          f'{place}: must be the bytes of an image, got'
          f' {type(encoded).__name__}.'
      )
    result[i] = images.decode(encoded, feature.shape, feature.dtype, place)
  return result
