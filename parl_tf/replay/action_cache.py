"""Samples of a policy at every stored state, in memory-mapped files.

A cache belongs to one version of a policy's weights and to one set of states.
Each state is found by its episode id and step index, and verified by a digest
of its observation. Samples are written in shards, so that several servers can
draw them and a killed program resumes.

  header.json    what was drawn: `Header`
  states.npz     episode ids, step indices and digests, `[S]`
  samples.npy    `[S, N, H * A]` float16 or float32 in [-1, 1]
  shards.txt     a line for each complete shard: its number and checksum

Axis: S states.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import threading
from typing import Any, Dict, List, Optional
import zlib

import numpy as np

from parl_tf import episode_file
from parl_tf import synced_file
from parl_tf.replay import stored_states

STATES_PER_SHARD = 1024
"""States of one draw."""

_FORMAT = 1
_HEADER, _STATES = 'header.json', 'states.npz'
_SAMPLES, _SHARDS = 'samples.npy', 'shards.txt'
_DTYPES = ('float16', 'float32')


@dataclasses.dataclass(frozen=True)
class Header:
  """What a cache's samples are drawn from.

  Attributes:
    version: Version of the policy's weights.
    num_samples: N.
    action_size: H * A.
    seed: Seed of the draws.
    temperature: Temperature of the samples.
    dtype: 'float16' or 'float32'.
    settings: What else the samples depend on, such as an instruction that all
      states share; None if unknown.
    dataset: Digest of the states; set by `ActionCache`.
    num_states: S; set by `ActionCache`.
  """

  version: str
  num_samples: int
  action_size: int
  seed: int = 0
  temperature: float = 1.0
  dtype: str = 'float32'
  settings: Optional[str] = None
  dataset: str = ''
  num_states: int = 0

  def __post_init__(self):
    if self.dtype not in _DTYPES:
      raise ValueError(f'`dtype` must be one of {_DTYPES}, got {self.dtype!r}.')
    if self.num_samples < 1 or self.action_size < 1:
      raise ValueError(
          '`num_samples` and `action_size` must be positive, got '
          f'{self.num_samples} and {self.action_size}.'
      )


class ActionCache:
  """The samples of one version of a policy at one set of states.

  Attributes:
    directory: Where the files are.
    header: What the samples are drawn from.
    samples: `[S, N, H * A]`, memory-mapped. Rows of missing shards are 0.
  """

  def __init__(self, directory: str, *, is_writable: bool = False):
    """Opens a cache.

    Args:
      directory: Directory of the cache.
      is_writable: Whether shards are added.

    Raises:
      FileNotFoundError: If there is no cache.
      ValueError: If a file is damaged.
    """
    self.directory = directory
    self.header = _read_header(directory)
    try:
      with np.load(self._path(_STATES)) as states:
        self._episodes = np.unique(states['episode_id'])
        self._keys = self._make_keys(states['episode_id'], states['step_index'])
        self._digests = states['digests']
    except OSError:
      raise
    except episode_file.READ_ERRORS as error:
      raise ValueError(
          f'{self._path(_STATES)} is damaged: {error!r}'
      ) from error
    self._order = np.argsort(self._keys)
    try:
      self.samples = np.load(
          self._path(_SAMPLES), mmap_mode='r+' if is_writable else 'r'
      )
    except (EOFError, ValueError) as error:
      raise ValueError(f'{self._path(_SAMPLES)} is damaged: {error}') from error
    shape = (
        self.header.num_states, self.header.num_samples, self.header.action_size
    )
    if self.samples.shape != shape or self.samples.dtype != self.header.dtype:
      raise ValueError(
          f'{self._path(_SAMPLES)} must be {self.header.dtype} of shape '
          f'{list(shape)}, got {self.samples.dtype} of shape '
          f'{list(self.samples.shape)}.'
      )
    if is_writable:
      self._drop_half_line()
    self._checksums = self._read_shards()
    self._lock = threading.Lock()

  @staticmethod
  def remove(directory: str) -> None:
    """Removes a cache, if there is one; after a kill it is begun again."""
    # Without its header it counts as no cache.
    with contextlib.suppress(FileNotFoundError):
      os.remove(os.path.join(directory, _HEADER))
    shutil.rmtree(directory, ignore_errors=True)

  @classmethod
  def open_or_create(
      cls, directory: str, header: Header, states: stored_states.StoredStates
  ) -> 'ActionCache':
    """Opens a cache to add shards, or creates an empty one.

    Args:
      directory: Directory of the cache.
      header: What to draw; `dataset` and `num_states` are ignored.
      states: The states.

    Raises:
      ValueError: If the directory has a cache of something else.
    """
    digests = states.digests
    header = dataclasses.replace(
        header,
        dataset=_dataset_digest(states, digests),
        num_states=len(digests),
    )
    if os.path.exists(os.path.join(directory, _HEADER)):
      cache = cls(directory, is_writable=True)
      cache.check(header)
      return cache
    synced_file.make_directory(directory)
    with synced_file.write(os.path.join(directory, _STATES)) as file:
      np.savez(
          file,
          episode_id=states.episode_id,
          step_index=states.step_index,
          digests=digests,
      )
    path = os.path.join(directory, _SAMPLES)
    np.lib.format.open_memmap(
        path,
        'w+',
        np.dtype(header.dtype),
        (header.num_states, header.num_samples, header.action_size),
    ).flush()
    with open(path, 'rb+') as file:
      # A write to a mapped file on a full disk would end the process.
      try:
        os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
      except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    if os.path.exists(os.path.join(directory, _SHARDS)):
      os.remove(os.path.join(directory, _SHARDS))
    with synced_file.write(os.path.join(directory, _HEADER)) as file:
      fields = dict(dataclasses.asdict(header), format=_FORMAT)
      file.write(json.dumps(fields, indent=1).encode())
    return cls(directory, is_writable=True)

  @property
  def num_shards(self) -> int:
    """The number of shards."""
    return -(-self.header.num_states // STATES_PER_SHARD)

  @property
  def complete_shards(self) -> List[int]:
    """The shards with samples."""
    return sorted(self._checksums)

  @property
  def missing_shards(self) -> List[int]:
    """The shards without samples."""
    return [x for x in range(self.num_shards) if x not in self._checksums]

  def check(self, header: Header) -> None:
    """Raises `ValueError` if the cache is of something else.

    Args:
      header: What it should be. Its `version`, `seed`, `dataset` and
        `num_states` are not compared if they are '' or 0, and `settings` not
        if one of both does not know them.
    """
    for name, wanted in dataclasses.asdict(header).items():
      seen = getattr(self.header, name)
      is_unset = name != 'temperature' and wanted in ('', 0, None)
      is_unset |= seen is None
      if seen != wanted and not is_unset:
        raise ValueError(
            f'The action cache {self.directory} must have `{name}` {wanted!r}, '
            f'got {seen!r}.'
        )

  def places(self, shard: int) -> slice:
    """Returns the states of a shard."""
    start = shard * STATES_PER_SHARD
    return slice(start, min(start + STATES_PER_SHARD, self.header.num_states))

  def write(self, shard: int, samples: np.ndarray) -> None:
    """Writes and syncs the samples of a shard; threads may call it.

    Args:
      shard: Number of the shard.
      samples: `[states of the shard, N, H * A]` in [-1, 1].

    Raises:
      ValueError: If the shape or a value is invalid.
    """
    places = self.places(shard)
    samples = np.asarray(samples)
    shape = (places.stop - places.start, *self.samples.shape[1:])
    if samples.shape != shape:
      raise ValueError(
          f'Samples of shard {shard} must have shape {list(shape)}, got '
          f'{list(samples.shape)}.'
      )
    if not np.all(np.abs(samples) <= 1.0):  # False for NaN, too.
      raise ValueError(
          f'Samples of shard {shard} must be finite and in [-1, 1].'
      )
    samples = samples.astype(self.header.dtype)
    with self._lock:
      self.samples[places] = samples
      self.samples.flush()
      checksum = zlib.crc32(samples.tobytes())
      with open(self._path(_SHARDS), 'a', encoding='ascii') as file:
        file.write(f'{shard} {checksum}\n')
        file.flush()
        os.fsync(file.fileno())
      self._checksums[shard] = checksum

  def verify(self) -> None:
    """Raises `ValueError` if shards are missing or damaged."""
    if missing := self.missing_shards:
      raise ValueError(
          f'The action cache {self.directory} is incomplete: {len(missing)} of '
          f'{self.num_shards} shards are missing.'
      )
    for shard, checksum in self._checksums.items():
      if zlib.crc32(self.samples[self.places(shard)].tobytes()) != checksum:
        raise ValueError(
            f'{self._path(_SAMPLES)}: shard {shard} is damaged; remove its '
            f'line from {_SHARDS} to draw it again.'
        )

  def find(self, states: stored_states.StoredStates) -> np.ndarray:
    """Returns the rows of states in `samples`, `[S]`.

    Raises:
      ValueError: If a state is not in the cache, or has another observation.
    """
    wanted = self._make_keys(states.episode_id, states.step_index)
    places = np.searchsorted(self._keys, wanted, sorter=self._order)
    rows = self._order[np.minimum(places, len(self._order) - 1)]
    is_absent = self._keys[rows] != wanted
    is_wrong = is_absent | (self._digests[rows] != states.digests)
    if is_wrong.any():
      first = int(np.argmax(is_wrong))
      fault = 'is missing' if is_absent[first] else 'has another observation'
      raise ValueError(
          f'The action cache {self.directory} is of another dataset: step '
          f'{states.step_index[first]} of episode {states.episode_id[first]} '
          f'{fault} ({int(is_wrong.sum())} of {len(wanted)} states).'
      )
    return rows

  def _path(self, name: str) -> str:
    return os.path.join(self.directory, name)

  def _read_shards(self) -> Dict[int, int]:
    """Returns the checksums of complete shards."""
    checksums = {}
    if os.path.exists(self._path(_SHARDS)):
      with open(self._path(_SHARDS), encoding='ascii') as file:
        for line in file:
          if line.endswith('\n'):
            shard, checksum = line.split()
            checksums[int(shard)] = int(checksum)
    return checksums

  def _drop_half_line(self) -> None:
    """Removes the last line if a killed program did not complete it."""
    if os.path.exists(self._path(_SHARDS)):
      with open(self._path(_SHARDS), 'rb+') as file:
        file.truncate(file.read().rfind(b'\n') + 1)

  def _make_keys(
      self, episode_id: np.ndarray, step_index: np.ndarray
  ) -> np.ndarray:
    """Returns a number for each state, `[S]`; -1 for unknown episodes."""
    ranks = np.searchsorted(self._episodes, episode_id)
    ranks = np.minimum(ranks, len(self._episodes) - 1)
    is_known = self._episodes[ranks] == episode_id
    return np.where(is_known, (ranks.astype(np.int64) << 32) + step_index, -1)


def exists(directory: str) -> bool:
  """Returns whether a directory has a cache, which may be incomplete."""
  return os.path.exists(os.path.join(directory, _HEADER))


def _read_header(directory: str) -> Header:
  path = os.path.join(directory, _HEADER)
  with open(path, encoding='utf-8') as file:
    try:
      fields: Dict[str, Any] = json.load(file)
      if fields.pop('format') != _FORMAT:
        raise ValueError('another format')
      return Header(**fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise ValueError(f'{path} is damaged: {error!r}.') from error


def _dataset_digest(
    states: stored_states.StoredStates, digests: np.ndarray
) -> str:
  sha = hashlib.sha256()
  for array, dtype in (
      (states.episode_id, '<i8'), (states.step_index, '<i4'), (digests, '<u8')
  ):
    sha.update(np.ascontiguousarray(array, dtype).tobytes())
  return sha.hexdigest()[:16]
