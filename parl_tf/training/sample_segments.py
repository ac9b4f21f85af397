"""A served policy's samples at all stored states, while its weights change.

The states of a table are divided into segments of whole episodes, each with an
action cache of one version of the weights. A new version makes all of them
stale. `draw_new` draws the samples of new episodes, and `refresh` draws the
stalest segments again, until a share of all states has samples of the present
version. `attach` attaches samples of all states to the rows of the critic.
"""

import collections
import dataclasses
import os
import shutil
import threading
from typing import Dict, List, NamedTuple, Optional, Sequence

from absl import logging
import numpy as np

from parl_tf import randomness
from parl_tf.replay import action_cache
from parl_tf.replay import cache_filling
from parl_tf.replay import experience
from parl_tf.replay import stored_states

_STATES_PER_SEGMENT = 4096


class _Segment(NamedTuple):
  """Some consecutive episodes of a table.

  Attributes:
    table: `offline` or `online`.
    states: Their states.
    directory: Holds a cache for each version, named by its number.
  """

  table: str
  states: stored_states.StoredStates
  directory: str

  @property
  def size(self) -> int:
    """The number of states."""
    return len(self.states.episode_id)


class SampleSegments:
  """The samples of both tables, attached to the rows of the critic.

  Attributes:
    header: What is drawn; its version is ignored.
  """

  def __init__(
      self,
      directory: str,
      table_experience,
      header: action_cache.Header,
      base: Optional[action_cache.ActionCache] = None,
  ):
    """Initializes the segments without reading or drawing samples.

    Args:
      directory: Directory of the segments' caches.
      table_experience: `MemoryExperience`, which may grow.
      header: What is drawn; its version is ignored, and so is its dtype if
        there is a base.
      base: Complete cache of the offline table, whose samples are taken over.
    """
    self._directory = directory
    self._experience = table_experience
    if base is not None:
      # A base of float16 was chosen to save memory, which is as scarce here.
      header = dataclasses.replace(header, dtype=base.header.dtype)
    self.header = header
    self._base = base
    self._parts: List[_Segment] = []  # As of the last `draw_new`.

  def draw_new(
      self, versions: Sequence[str], sampler: cache_filling.Sampler
  ) -> float:
    """Draws the samples of episodes that the tables have got since.

    Args:
      versions: Versions of the weights so far; the last is the present one.
      sampler: Draws samples of the present version.

    Returns:
      The share of all states drawn now.

    Raises:
      OSError: If the server does not answer.
      ValueError: If a cache is damaged or of something else.
    """
    self._parts = self._segments()
    num_drawn = 0
    for segment in self._parts:
      if not _complete_numbers(segment, versions):
        self._draw_first(segment, versions, sampler)
        num_drawn += segment.size
    return num_drawn / sum(segment.size for segment in self._parts)

  def attach(
      self, versions: Sequence[str], *, includes_present: bool
  ) -> float:
    """Attaches the newest samples of all states to the rows of the tables.

    Args:
      versions: As in `draw_new`.
      includes_present: Whether old episodes get samples of the present version
        where `refresh` has drawn them. If False, the result does not depend on
        a `refresh` that was interrupted.

    Returns:
      The mean number of versions since a sample's.

    Raises:
      ValueError: If a cache is damaged or of something else.
    """
    present = len(versions) - 1
    newest = present if includes_present else present - 1
    ages = []
    samples = self._make_room()
    ends = dict.fromkeys(samples, 0)  # Of what is filled.
    for segment in self._parts:
      numbers = _complete_numbers(segment, versions)
      usable = [x for x in numbers if x <= newest] or numbers[:1]
      number = usable[-1]
      # The last checkpoint but one, which a restart may fall back to, is from
      # before the last version.
      _discard_before(segment, usable[-2:][0])
      cache = action_cache.ActionCache(_path(segment, number))
      cache.verify()
      start = ends[segment.table]
      ends[segment.table] += segment.size
      samples[segment.table][start : start + segment.size] = cache.samples[
          cache.find(segment.states)
      ]
      ages.append(present - number)
    for table, candidates in samples.items():
      self._experience.set_candidates(table, candidates)
    return float(np.average(ages, weights=[x.size for x in self._parts]))

  def refresh(
      self,
      versions: Sequence[str],
      sampler: cache_filling.Sampler,
      refresh_share: float,
      is_stopped: threading.Event,
  ) -> float:
    """Draws the stalest samples again, to be attached later.

    May run in another thread while the critic trains on what `attach` has
    attached; the tables must not grow meanwhile.

    Args:
      versions: As in `draw_new`.
      sampler: As in `draw_new`.
      refresh_share: Share of all states that must have samples of the present
        version, those of new episodes included.
      is_stopped: Ends the drawing when it is set.

    Returns:
      The share of states drawn now.

    Raises:
      OSError: If the server does not answer.
      ValueError: If a cache is damaged or of something else.
    """
    present = len(versions) - 1
    ages = np.array([
        present - _complete_numbers(x, versions)[-1] for x in self._parts
    ])
    sizes = np.array([segment.size for segment in self._parts])
    wanted = refresh_share * np.sum(sizes)
    num_fresh, num_drawn = np.sum(sizes[ages == 0]), 0
    for index in np.argsort(-ages, kind='stable'):
      if ages[index] == 0 or num_fresh >= wanted or is_stopped.is_set():
        break
      cache = self._open(self._parts[index], versions, present)
      cache_filling.fill(
          cache, self._parts[index].states, [sampler], is_stopped=is_stopped
      )
      num_fresh += sizes[index]
      num_drawn += sizes[index]
    return float(num_drawn / np.sum(sizes))

  def _make_room(self) -> Dict[str, np.ndarray]:
    """Returns an empty array for the samples of each table.

    The samples may take most of the machine's memory. So the tables give up
    theirs first, and there is no second copy of the new ones.
    """
    sizes: Dict[str, int] = collections.Counter()
    for segment in self._parts:
      sizes[segment.table] += segment.size
    for table in sizes:
      self._experience.clear_candidates(table)
    shape = (self.header.num_samples, self.header.action_size)
    return {
        table: np.empty((size, *shape), self.header.dtype)
        for table, size in sizes.items()
    }

  def _segments(self) -> List[_Segment]:
    segments = []
    for table in experience.TABLE_NAMES:
      if not self._experience.num_transitions(table):
        continue
      states = self._experience.states(table)
      starts = np.flatnonzero(np.diff(states.episode_id, prepend=-(2**62)))
      bounds = [0]
      # Online, a segment is an episode: it never changes as others follow.
      least = _STATES_PER_SEGMENT if table == 'offline' else 1
      for start in [*starts[1:], len(states.episode_id)]:
        if start - bounds[-1] >= least or start == len(states.episode_id):
          bounds.append(int(start))
      for first, end in zip(bounds, bounds[1:]):
        part = states.part(first, end)
        name = f'{table}_{part.episode_id[0]}_{end - first}'
        segments.append(
            _Segment(table, part, os.path.join(self._directory, name))
        )
    return segments

  def _draw_first(self, segment, versions, sampler) -> None:
    """Draws a new segment, or takes its samples from the base cache."""
    base = self._base if segment.table == 'offline' else None
    if (
        base is None
        or base.header.version not in versions
        or base.header.num_samples < self.header.num_samples
        or base.header.temperature != self.header.temperature
    ):
      cache = self._open(segment, versions, len(versions) - 1)
      cache_filling.fill(cache, segment.states, [sampler])
      return
    number = list(versions).index(base.header.version)
    cache = self._open(segment, versions, number)
    rows = base.find(segment.states)
    for shard in cache.missing_shards:
      samples = base.samples[rows[cache.places(shard)]]
      cache.write(shard, samples[:, : cache.header.num_samples])

  def _open(self, segment, versions, number) -> action_cache.ActionCache:
    """Opens the cache of a version to add shards."""
    path = _path(segment, number)
    # Segments and versions differ in their noise.
    seed = randomness.fold_in(
        [self.header.seed, 0],
        segment.table,
        int(segment.states.episode_id[0]),
        number,
        'samples',
    )
    header = dataclasses.replace(
        self.header, version=versions[number], seed=int(seed.numpy()[0])
    )
    try:
      return action_cache.ActionCache.open_or_create(
          path, header, segment.states
      )
    except ValueError as error:
      # Left by a part of the run that a restored checkpoint has undone.
      logging.info('Drawing samples again: %s', error)
      _discard(path)
    return action_cache.ActionCache.open_or_create(
        path, header, segment.states
    )


def open_base(
    directory: str, header: action_cache.Header, versions: Sequence[str]
) -> action_cache.ActionCache:
  """Opens a cache of the offline table, for `SampleSegments`.

  Args:
    directory: The cache.
    header: What is drawn.
    versions: Versions of the weights so far; a cache of another one is logged,
      and not used.

  Raises:
    FileNotFoundError: If there is no cache.
    ValueError: If it is incomplete or damaged, or of these weights, but of
      another instruction, noise or size of the actions.
  """
  base = action_cache.ActionCache(directory)
  if base.header.version in versions:
    base.check(
        dataclasses.replace(
            base.header,
            action_size=header.action_size,
            settings=header.settings,
        )
    )
  else:
    logging.warning(
        'The samples in %s are of version %s of the weights, but the run has'
        ' %s: they are drawn again.',
        directory,
        base.header.version,
        versions[-1],
    )
  base.verify()
  return base


def _complete_numbers(segment: _Segment, versions: Sequence[str]) -> List[int]:
  """Returns the numbers of the versions with a complete cache, ascending."""
  numbers = []
  for number, version in enumerate(versions):
    path = _path(segment, number)
    if os.path.exists(os.path.join(path, 'header.json')):
      try:
        cache = action_cache.ActionCache(path)
      except ValueError:  # Damaged, for instance by a power failure.
        continue
      if not cache.missing_shards and cache.header.version == version:
        numbers.append(number)
  return numbers


def _discard_before(segment: _Segment, number: int) -> None:
  for name in os.listdir(segment.directory):
    if int(name) < number:
      _discard(os.path.join(segment.directory, name))


def _discard(path: str) -> None:
  """Removes a cache; a kill meanwhile leaves nothing that looks like one."""
  header = os.path.join(path, 'header.json')
  if os.path.exists(header):
    os.remove(header)
  shutil.rmtree(path)


def _path(segment: _Segment, number: int) -> str:
  return os.path.join(segment.directory, str(number))
