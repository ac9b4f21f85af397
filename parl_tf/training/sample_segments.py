"""A served policy's samples at all stored states, while its weights change.

The states of a table are divided into segments of whole episodes, each with an
action cache of one version of the weights. A new version makes all of them
stale. `update` draws the samples of new episodes, and draws the stalest
segments again, until a share of all states has samples of the present version.
"""

import dataclasses
import os
import shutil
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from parl_tf.replay import action_cache
from parl_tf.replay import cache_filling
from parl_tf.replay import experience

_STATES_PER_SEGMENT = 4096


class _Segment(NamedTuple):
  """Some consecutive episodes of a table.

  Attributes:
    table: `offline` or `online`.
    states: Their states.
    directory: Holds a cache for each version, named by its number.
  """

  table: str
  states: action_cache.States
  directory: str


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
      header: What is drawn; its version is ignored.
      base: Complete cache of the offline table, whose samples are taken over.
    """
    self._directory = directory
    self._experience = table_experience
    self.header = header
    self._base = base

  def update(
      self,
      versions: Sequence[str],
      sampler: cache_filling.Sampler,
      refresh_share: float,
  ) -> Dict[str, float]:
    """Draws samples and attaches those of all states.

    Args:
      versions: Versions of the weights so far; the last is the present one.
      sampler: Draws samples of the present version.
      refresh_share: Share of all states that must have samples of the present
        version, those of new episodes included.

    Returns:
      Metrics: `cache/staleness`, the mean number of versions since a sample's;
      `cache/share_drawn`, the share of states drawn now.

    Raises:
      OSError: If the server does not answer.
      ValueError: If a cache is damaged or of something else.
    """
    segments = self._segments()
    ages = np.array([self._age(segment, versions) for segment in segments])
    sizes = np.array([len(x.states.episode_id) for x in segments])
    is_drawn = ages < 0
    is_fresh = is_drawn | (ages == 0)
    for index in np.argsort(-ages, kind='stable'):
      if ages[index] <= 0:
        continue
      if np.sum(sizes[is_fresh]) >= refresh_share * np.sum(sizes):
        break
      is_drawn[index] = is_fresh[index] = True
    for index in np.flatnonzero(is_drawn):
      is_new = ages[index] < 0
      ages[index] = self._draw(segments[index], versions, sampler, is_new)
    self._attach(segments)
    return {
        'cache/staleness': float(np.sum(ages * sizes) / np.sum(sizes)),
        'cache/share_drawn': float(np.sum(sizes[is_drawn]) / np.sum(sizes)),
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
        part = action_cache.States(
            states.rows(slice(first, end)),
            states.episode_id[first:end],
            states.step_index[first:end],
        )
        name = f'{table}_{part.episode_id[0]}_{end - first}'
        segments.append(
            _Segment(table, part, os.path.join(self._directory, name))
        )
    return segments

  def _age(self, segment: _Segment, versions: Sequence[str]) -> int:
    """Returns the versions since a segment's complete cache; -1 without one."""
    number = self._newest(segment)
    return -1 if number is None else len(versions) - 1 - number

  def _newest(self, segment: _Segment) -> Optional[int]:
    """Returns the number of the newest version with a complete cache."""
    if not os.path.isdir(segment.directory):
      return None
    numbers = sorted(int(x) for x in os.listdir(segment.directory))
    for number in reversed(numbers):
      path = os.path.join(segment.directory, str(number))
      if os.path.exists(os.path.join(path, 'header.json')):
        if not action_cache.ActionCache(path).missing_shards:
          return number
    return None

  def _draw(self, segment, versions, sampler, is_new) -> int:
    """Draws a segment; returns its age."""
    number = len(versions) - 1
    base = None  # Where samples are taken from instead.
    if is_new and segment.table == 'offline' and self._base is not None:
      if self._base.header.version in versions:
        base = self._base
        number = list(versions).index(base.header.version)
    path = os.path.join(segment.directory, str(number))
    header = dataclasses.replace(self.header, version=versions[number])
    cache = action_cache.ActionCache.open_or_create(
        path, header, segment.states
    )
    if base is not None:
      rows = base.find(segment.states)
      for shard in cache.missing_shards:
        samples = base.samples[rows[cache.places(shard)]]
        cache.write(shard, samples[:, : cache.header.num_samples])
    else:
      cache_filling.fill(cache, segment.states, [sampler])
    for name in os.listdir(segment.directory):
      if int(name) != number:
        shutil.rmtree(os.path.join(segment.directory, name))
    return len(versions) - 1 - number

  def _attach(self, segments: Sequence[_Segment]) -> None:
    for table in experience.TABLE_NAMES:
      samples = []
      for segment in segments:
        if segment.table == table:
          path = os.path.join(segment.directory, str(self._newest(segment)))
          cache = action_cache.ActionCache(path)
          cache.verify()
          samples.append(cache.samples[cache.find(segment.states)])
      if samples:
        self._experience.set_candidates(table, np.concatenate(samples))

