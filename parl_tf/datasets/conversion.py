"""Writes datasets of any format to one file in D4RL's layout."""

import itertools
import os
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from absl import logging
import gin
import numpy as np

from parl_tf import types
from parl_tf.datasets import d4rl
from parl_tf.datasets import d4rl_writer
from parl_tf.datasets import formats
from parl_tf.datasets import joining
from parl_tf.datasets import reading
from parl_tf.datasets import rows as rows_lib

# Bindings of `dataset` that define success.
_SUCCESS = (
    'success_field', 'success_reward', 'is_binary', 'every_episode_succeeds',
)


class _Known(NamedTuple):
  """What a dataset tells without bindings of `dataset`."""

  has_successes: bool
  has_unit_actions: bool
  needs_successes: bool
  has_continuations: bool
  task_infos: Mapping[str, np.ndarray]
  recorded_bounds: Optional[np.ndarray]
  columns: Mapping[str, rows_lib.Column]


def convert(paths: Sequence[str], output: str) -> None:
  """Writes the episodes of all datasets to one file in D4RL's layout.

  The gin bindings of `dataset` define how actions and success are read. Where
  neither these nor the datasets define them, the file does not either, so that
  bindings apply when it is read. Rewards and successes of the tasks of play
  datasets are kept.

  Args:
    paths: Paths of the datasets, which may have different formats.
    output: File to write.

  Raises:
    ValueError: If a dataset has a fault, datasets were recorded with other
      bounds of actions, an episode does not fit the layout or
      differs in columns, shapes or bytes from the first, or the actions' units
      or the successes are known for some of the datasets only. Or if no episode
      of a dataset succeeds whose format takes the end of the task from success,
      and the bindings do not define it: all of its ends would become time-outs.
  """
  known = [_look_at(path) for path in paths]
  bound = gin.get_bindings(reading.make_layout)
  if bound.get('is_binary') and any(x.task_infos for x in known):
    raise ValueError(
        '`dataset.is_binary` must be False for datasets of play, whose'
        ' tasks have rewards and successes of their own.'
    )
  has_unit_actions = _has_unit_actions(paths, known)
  has_successes = _defines_success(paths, known)
  options = dict(
      metadata={
          # One string: an HDF5 attribute (64 KiB) holds at most 4,095.
          'converted_from': '\n'.join(
              os.path.basename(os.path.abspath(path)) for path in paths
          ),
          **_bounds(known),
      },
      has_successes=has_successes,
      has_unit_actions=has_unit_actions,
      has_continuations=any(x.has_continuations for x in known),
  )
  try:
    _write(paths, known, output, has_next_observations=True, **options)
  except _LastObservationUnknownError:
    # D4RL's files know it only where an episode is terminal.
    _write(paths, known, output, has_next_observations=False, **options)


class Readable(NamedTuple):
  """Datasets of any format to write to one.

  Attributes:
    episodes: All episodes, in the order of the datasets.
    has_successes: Whether bindings or the datasets define success.
    with_unit_actions: Paths of the datasets whose actions are known to be in
      [-1, 1], without a binding of their bounds.
  """

  episodes: Iterator[types.Episode]
  has_successes: bool
  with_unit_actions: Sequence[str]


def read(paths: Sequence[str]) -> Readable:
  """Returns the episodes of all datasets, for writers of other formats.

  Raises:
    ValueError: As `convert`; what only the episodes tell, when they are read.
  """
  known = [_look_at(path) for path in paths]
  _has_unit_actions(paths, known)
  has_successes = _defines_success(paths, known)
  is_bound = 'action_bounds' in gin.get_bindings(reading.make_layout)
  scales = joining.Scales()
  episodes = [
      _checked(path, dataset, found, has_successes, scales)
      for path, dataset, found in zip(
          paths, _read_valid(paths, known), known, strict=True
      )
  ]
  return Readable(
      itertools.chain.from_iterable(episodes),
      has_successes,
      [
          path
          for path, found in zip(paths, known, strict=True)
          if found.has_unit_actions and not is_bound
      ],
  )


def _has_unit_actions(paths, known) -> bool:
  bound = gin.get_bindings(reading.make_layout)
  return 'action_bounds' in bound or _known_for_all(
      paths,
      [x.has_unit_actions for x in known],
      '`dataset.action_bounds` must be bound, because not all actions are known'
      ' to be in [-1, 1], but only those of %s.',
  )


def _defines_success(paths, known) -> bool:
  bound = gin.get_bindings(reading.make_layout)
  return any(x in bound for x in _SUCCESS) or _known_for_all(
      paths,
      [x.has_successes for x in known],
      '`dataset.success_field` or `dataset.success_reward` must be bound,'
      ' because not all successes are known, but only those of %s.',
  )


def _known_for_all(
    paths: Sequence[str], known: Sequence[bool], message: str
) -> bool:
  """Returns whether something is known for all datasets, or for none.

  Raises:
    ValueError: If it is known for some of them only, with their paths.
  """
  if any(known) and not all(known):
    those = [path for path, x in zip(paths, known, strict=True) if x]
    raise ValueError(message % ', '.join(those))
  return all(known)


def _bounds(known) -> Dict[str, Any]:
  """Returns the bounds with which all datasets were recorded, as metadata.

  Raises:
    ValueError: If they differ.
  """
  found = [x.recorded_bounds for x in known]
  if any(x is None for x in found):
    return {}
  for bounds in found:
    if not np.array_equal(bounds, found[0]):
      raise ValueError(
          'Datasets to join must have been recorded with the same bounds of'
          f' actions, got {found[0].tolist()} and {bounds.tolist()}.'
      )
  return {d4rl.BOUNDS: found[0]}


class _LastObservationUnknownError(Exception):
  """An episode lacks the observation after its last step."""


def _look_at(path: str) -> _Known:
  with formats.open_source(path, reading.make_layout()) as source:
    return _Known(
        'success' in source.columns,
        source.has_unit_actions,
        source.needs_successes,
        source.has_continuations,
        source.task_infos(),
        source.recorded_bounds,
        source.columns,
    )


def _read_valid(paths, known, **options) -> List[Iterator[types.Episode]]:
  """Validates all datasets, before anything is written.

  Args:
    paths: Paths of the datasets.
    known: What each tells without bindings.
    **options: Arguments of `reading.make_layout`.

  Returns:
    The episodes of each.

  Raises:
    ValueError: If a dataset has a fault, or other shapes than the first.
  """
  datasets = [reading.read_episodes(path, **options) for path in paths]
  joining.check_shapes(paths, [x.columns for x in known])
  return datasets


def _write(paths, known, output, *, has_next_observations, **options) -> None:
  # Actions in unknown units are copied as they are, unless they are clipped.
  clips = gin.get_bindings(reading.make_layout).get('clip_actions', False)
  datasets = _read_valid(
      paths, known, checks_actions=options['has_unit_actions'] or clips
  )
  with d4rl_writer.EpisodeFile(
      output, has_next_observations=has_next_observations, **options
  ) as file:
    number = num_lost = 0
    scales = joining.Scales()
    for path, episodes, found in zip(paths, datasets, known, strict=True):
      episodes = _without_successor(
          _checked(path, episodes, found, options['has_successes'], scales)
      )
      for episode, infos in _with_infos(episodes, found.task_infos):
        if has_next_observations and not episode.has_last_transition:
          raise _LastObservationUnknownError
        file.append(episode._replace(episode_id=number), infos)
        number += 1
        timed_out = episode.discount[-1] > 0.0
        num_lost += bool(episode.has_last_transition and timed_out)
  if num_lost and not has_next_observations:
    logging.warning(
        '%s: the last observations of %d episodes that timed out are lost,'
        ' because some episodes have none. Convert these separately to keep'
        ' them.',
        output,
        num_lost,
    )


def _without_successor(
    episodes: Iterator[types.Episode],
) -> Iterator[types.Episode]:
  """Yields the episodes; the last one has none in the next dataset."""
  previous = None
  for episode in episodes:
    if previous is not None:
      yield previous
    previous = episode
  if previous is not None:
    yield previous._replace(is_continued=False)


def _checked(
    path: str,
    episodes: Iterator[types.Episode],
    found: _Known,
    has_successes: bool,
    scales: joining.Scales,
) -> Iterator[types.Episode]:
  """Yields the episodes of a dataset; warns if its numbers have another scale.

  Args:
    path: Path of the dataset.
    episodes: Its episodes.
    found: What it tells without bindings.
    has_successes: Whether success is defined.
    scales: Those of the datasets before; extended by this one.

  Raises:
    ValueError: At their end, if their ends come from successes, which nothing
      defines, and none succeeds.
  """
  is_solved = has_successes
  for episode in scales.watch(
      path, episodes, has_unit_actions=found.has_unit_actions
  ):
    is_solved = is_solved or bool(np.any(episode.success))
    yield episode
  if not is_solved and found.needs_successes:
    raise ValueError(
        f'{path}: no step succeeds, so that no episode would end but by a'
        ' time-out. Bind what success is, for instance'
        ' `dataset.success_reward = -0.5` for rewards of -1 and 0.'
    )


def _with_infos(
    episodes: Iterator[types.Episode], infos: Mapping[str, np.ndarray]
) -> Iterator[Tuple[types.Episode, Mapping[str, np.ndarray]]]:
  """Yields the episodes with their rows of `infos`, in the file's order."""
  start = 0
  for episode in episodes:
    end = start + episode.num_steps
    yield episode, {name: array[start:end] for name, array in infos.items()}
    start = end
