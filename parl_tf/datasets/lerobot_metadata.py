"""Metadata of a LeRobot dataset: its columns and episodes."""

import contextlib
import glob
import itertools
import json
import os
from typing import (
    Any,
    Dict,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from parl_tf.datasets import json_file
from parl_tf.datasets import rows as rows_lib

TASK_ENDS = 'parl_tf.done_is_terminal'
ONE_OBSERVATION = 'parl_tf.has_one_observation'
INFO = 'meta/info.json'
EPISODES = 'meta/episodes'
VIDEO, IMAGE = 'video', 'image'

_FIELDS = ('codebase_version', 'features', 'fps', 'data_path',
           'total_episodes', 'total_frames')
_DEFAULT_CHUNK = 1_000


class Feature(NamedTuple):
  """Description of a column.

  Attributes:
    key: Name of the column.
    kind: 'video', 'image' (encoded in the Parquet file) or 'numbers'.
    shape: Shape of one frame's value; `(height, width, channels)` for images.
    dtype: Type of the entries.
  """

  key: str
  kind: str
  shape: Tuple[int, ...]
  dtype: np.dtype


class Episode(NamedTuple):
  """Length and files of an episode.

  Attributes:
    number: `episode_index` of the episode.
    length: Number of frames.
    file: Path of the Parquet file.
    videos: Video file and index of the episode's first frame in it, keyed by
      column.
  """

  number: int
  length: int
  file: str
  videos: Mapping[str, Tuple[str, int]]


class _Entry(NamedTuple):
  """Metadata entry of an episode.

  Attributes:
    file: Metadata file (and line) of the entry, used in error messages.
    values: `episode_index` and `length`.
    places: Values for the path templates in `info.json`, for the Parquet file
      ('data') and for each video, keyed by column.
    starts: Start of the episode in each video, in seconds, keyed by column.
  """

  file: str
  values: Mapping[str, Any]
  places: Mapping[str, Mapping[str, Any]]
  starts: Mapping[str, Any]


def import_pyarrow() -> Any:
  """Imports pyarrow, which only this format requires.

  Raises:
    ImportError: If pyarrow is not installed.
  """
  try:
    import pyarrow  # pylint: disable=g-import-not-at-top
    import pyarrow.parquet  # pylint: disable=g-import-not-at-top
  except ImportError as error:
    raise ImportError(
        'LeRobot datasets need pyarrow: pip install "parl_tf[lerobot]".'
    ) from error
  return pyarrow


@contextlib.contextmanager
def damage_named(path: str) -> Iterator[None]:
  """Converts the errors of pyarrow on corrupt files to `DamagedFileError`."""
  try:
    yield
  except (OSError, import_pyarrow().ArrowException) as error:
    raise rows_lib.DamagedFileError(
        f'{path}: must be a complete Parquet file; it is missing, truncated,'
        f' corrupt or in another format ({error}).'
    ) from error


class Metadata:
  """The files in `meta`, except for statistics and tasks.

  Attributes:
    features: Readable columns, keyed by name.
    rate: Frames per second.
    done_is_terminal: Whether `next.done` marks the end of the task only, as in
      datasets that the library wrote.
    has_one_observation: Whether the observation is a single array, as in
      datasets that the library wrote, even if it has two names.
  """

  def __init__(self, path: str):
    """Reads `info.json`.

    Raises:
      rows.DamagedFileError: If the file is corrupt or incomplete.
    """
    self._path = path
    self._info = self._read_info()
    self.rate = float(self._info['fps'])
    self.done_is_terminal = bool(self._info.get(TASK_ENDS, False))
    self.has_one_observation = bool(self._info.get(ONE_OBSERVATION, False))
    self.features: Dict[str, Feature] = {}
    described = f'{os.path.join(path, INFO)}: `features'
    with json_file.structure_checked(f'{described}`'):
      for key, value in self._info['features'].items():
        with json_file.structure_checked(f'{described}.{key}`'):
          feature = _make_feature(key, value)
        if feature is not None:
          self.features[key] = feature

  def find_episodes(self, video_keys: Sequence[str]) -> Sequence[Episode]:
    """Returns all episodes, with the files of the given videos.

    Raises:
      rows.DamagedFileError: If the metadata is corrupt or incomplete.
    """
    is_packed = self._info['codebase_version'].startswith('v3.')
    find = self._packed_entries if is_packed else self._single_entries
    return [self._make_episode(x) for x in find(video_keys)]

  def find_faults(self, episodes: Sequence[Episode]) -> Iterator[str]:
    """Yields the first fault of each kind in the episodes."""
    where = os.path.join(self._path, EPISODES)
    for before, after in itertools.pairwise(x.number for x in episodes):
      if after <= before:
        yield (f'{where}: `episode_index` must increase from one episode to the'
               f' next, but {after} follows {before}.')
        break
    for episode in episodes:
      if episode.length < 1:
        yield (f'{where}: `length` must be at least 1, got {episode.length} for'
               f' episode {episode.number}.')
        break
    num_frames = sum(x.length for x in episodes)
    for field, seen in (
        ('total_episodes', len(episodes)), ('total_frames', num_frames)
    ):
      if self._info[field] != seen:
        path = os.path.join(self._path, INFO)
        yield (f'{path}: `{field}` must be {seen}, the number in {EPISODES},'
               f' got {self._info[field]}.')
    files = dict.fromkeys(
        file
        for x in episodes
        for file in (x.file, *(video for video, _ in x.videos.values()))
    )
    missing = [x for x in files if not os.path.isfile(x)]
    if missing:
      yield (f'{missing[0]}: is listed in {EPISODES} but missing; missing in'
             f' total: {len(missing)} of {len(files)} files.')

  def _read_info(self) -> Mapping[str, Any]:
    path = os.path.join(self._path, INFO)
    info = json_file.read(path)
    missing = [x for x in _FIELDS if x not in info]
    if missing:
      raise rows_lib.DamagedFileError(
          f'{path}: `{missing[0]}` is required but missing.'
      )
    version = info['codebase_version']
    if not str(version).startswith(('v2.', 'v3.')):
      raise rows_lib.DamagedFileError(
          f'{path}: `codebase_version` must be v2.0, v2.1 or v3.0, got'
          f' {version!r}.'
      )
    rate = info['fps']
    if not isinstance(rate, (int, float)) or rate <= 0:
      raise rows_lib.DamagedFileError(
          f'{path}: `fps` must be a positive number, got {rate!r}.'
      )
    return info

  def _single_entries(self, video_keys: Sequence[str]) -> Iterator[_Entry]:
    """Yields the episodes of version 2, which stores one per file."""
    path = os.path.join(self._path, f'{EPISODES}.jsonl')
    if not os.path.isfile(path):
      raise rows_lib.DamagedFileError(f'{path}: is required but missing.')
    with open(path, encoding='utf-8', errors='replace') as file:
      for number, line in enumerate(file, 1):
        try:
          values = json.loads(line)
          index = int(values['episode_index'])
        except (ValueError, KeyError, TypeError) as error:
          raise rows_lib.DamagedFileError(
              f'{path}, line {number}: must be JSON with `episode_index`, got'
              f' {line.strip()!r}.'
          ) from error
        chunk = index // int(self._info.get('chunks_size', _DEFAULT_CHUNK))
        place = dict(episode_index=index, episode_chunk=chunk)
        yield _Entry(
            f'{path}, line {number}', values,
            {x: {**place, 'video_key': x} for x in ('data', *video_keys)},
            dict.fromkeys(video_keys, 0.0),
        )

  def _packed_entries(self, video_keys: Sequence[str]) -> Iterator[_Entry]:
    """Yields the episodes of version 3, which stores several per file."""
    prefixes = {'data': 'data', **{x: f'videos/{x}' for x in video_keys}}
    wanted = {'episode_index', 'length'} | {
        f'{x}/{field}'
        for x in prefixes.values()
        for field in ('chunk_index', 'file_index', 'from_timestamp')
    }
    parquet = import_pyarrow().parquet
    paths = glob.glob(f'{EPISODES}/*/*.parquet', root_dir=self._path)
    for path in sorted(paths):
      path = os.path.join(self._path, path)
      with damage_named(path), parquet.ParquetFile(path) as file:
        names = [x for x in file.schema_arrow.names if x in wanted]
        entries = file.read(names).to_pylist()
      for values in entries:
        places = {
            key: dict(
                video_key=key,
                chunk_index=values.get(f'{prefix}/chunk_index'),
                file_index=values.get(f'{prefix}/file_index'),
            )
            for key, prefix in prefixes.items()
        }
        starts = {
            x: values.get(f'{prefixes[x]}/from_timestamp') for x in video_keys
        }
        yield _Entry(path, values, places, starts)

  def _make_episode(self, entry: _Entry) -> Episode:
    try:
      return Episode(
          number=int(entry.values['episode_index']),
          length=int(entry.values['length']),
          file=self._file('data_path', entry.places['data']),
          videos={
              key: (
                  self._file('video_path', entry.places[key]),
                  round(start * self.rate),
              )
              for key, start in entry.starts.items()
          },
      )
    except (LookupError, TypeError, ValueError) as error:
      raise rows_lib.DamagedFileError(
          f'{entry.file}: must define the index, length and location of each'
          f' episode, as required by `data_path` and `video_path` in {INFO};'
          f' got {error!r} in {entry.values}.'
      ) from error

  def _file(self, field: str, place: Mapping[str, Any]) -> str:
    return os.path.join(self._path, str(self._info[field]).format(**place))


def _make_feature(key: str, described: Mapping[str, Any]) -> Optional[Feature]:
  """Returns a column, or None for unsupported types (text, depth maps)."""
  kind = described.get('dtype')
  shape = tuple(int(x) for x in described.get('shape', ()))
  if kind not in (VIDEO, IMAGE):
    try:
      dtype = np.dtype(str(kind))
    except TypeError:
      return None
    is_number = dtype.kind in 'biuf'
    return Feature(key, 'numbers', shape, dtype) if is_number else None
  # Older datasets list channels first, even if images are stored channels last.
  if len(shape) == 3 and shape[0] in (1, 3) and shape[-1] not in (1, 3):
    shape = (*shape[1:], shape[0])
  about = {**described.get('video_info', {}), **(described.get('info') or {})}
  is_depth_map = about.get('video.is_depth_map') or about.get('is_depth_map')
  if len(shape) != 3 or shape[-1] not in (1, 3) or is_depth_map:
    return None
  return Feature(key, kind, shape, np.dtype(np.uint8))
