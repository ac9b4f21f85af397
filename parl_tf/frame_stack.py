"""Stacks of consecutive frames, of which each is stored only once.

Episodes, logs and tables contain single observations. A network that needs
motion sees F of them, oldest first along the last axis: images
`[height, width, F * channels]` and vectors `[F * size]`. What does not move is
not stacked: a vector called `instruction`, and vectors of integers. Stacks are
made where observations are read, and never reach across the start of an
episode; there, the first frame is repeated.
"""

from typing import Any, Callable, List, Optional, Sequence

import dm_env
from dm_env import specs
import numpy as np
import tree

from parl_tf import types

INSTRUCTION = 'instruction'
"""Name of a vector that is not stacked."""


def check(num_frames: int) -> None:
  """Raises a ValueError if `num_frames` is not positive."""
  if num_frames < 1:
    raise ValueError(f'`num_frames` must be positive, got {num_frames}.')


def are_stacked(observation: types.Nest, num_batch_axes: int = 0) -> List[bool]:
  """Returns whether frames of each leaf are stacked, in the order of leaves.

  Args:
    observation: Nest of arrays or specs: images `[..., height, width,
      channels]` uint8, and vectors `[..., size]`.
    num_batch_axes: Number of axes before those of a single frame.
  """
  return [
      _is_stacked(leaf, path, num_batch_axes)
      for path, leaf in tree.flatten_with_path(observation)
  ]


def stacked_shapes(spec: types.Nest, num_frames: int) -> List[List[int]]:
  """Returns the shape of each leaf with stacked frames.

  Args:
    spec: Nest of specs of single frames.
    num_frames: F.
  """
  return [
      [*leaf.shape[:-1], num_frames * leaf.shape[-1]]
      if is_stacked
      else list(leaf.shape)
      for leaf, is_stacked in zip(tree.flatten(spec), are_stacked(spec))
  ]


def stacked_normalization(
    normalization: Optional[types.Normalization],
    spec: types.Nest,
    num_frames: int,
) -> Optional[types.Normalization]:
  """Returns the statistics of stacked frames.

  Args:
    normalization: Statistics of single frames, or None.
    spec: Nest of specs of single frames.
    num_frames: F.
  """
  if normalization is None:
    return None

  def stack(statistics):
    leaves = zip(tree.flatten(statistics), are_stacked(spec))
    return tree.unflatten_as(
        statistics,
        [
            np.tile(leaf, num_frames)
            if is_stacked and leaf is not None
            else leaf
            for leaf, is_stacked in leaves
        ],
    )

  return normalization._replace(
      mean=stack(normalization.mean),
      standard_deviation=stack(normalization.standard_deviation),
  )


def count(stacked_spec: types.Nest, spec: types.Nest) -> int:
  """Returns the number of frames in observations, 1 if nothing is stacked.

  Args:
    stacked_spec: Nest of specs of observations with stacked frames.
    spec: The same without stacks; the leaves may be of another type.
  """
  for stacked, single, is_stacked in zip(
      tree.flatten(stacked_spec), tree.flatten(spec), are_stacked(spec)
  ):
    if is_stacked and len(stacked.shape) == len(single.shape):
      size = stacked.shape[-1]  # None if any size is accepted.
      num_frames, rest = divmod(size or 0, single.shape[-1])
      return 1 if rest else max(1, num_frames)
  return 1


def newest(observation: types.Nest, num_frames: int) -> types.Nest:
  """Returns an observation with the newest frame of each of its stacks."""
  leaves = [
      leaf[..., -(leaf.shape[-1] // num_frames):] if is_stacked else leaf
      for leaf, is_stacked in zip(
          tree.flatten(observation), are_stacked(observation)
      )
  ]
  return tree.unflatten_as(observation, leaves)


def read(
    observation: types.Nest,
    places: Callable[[int], np.ndarray],
    num_frames: int,
) -> types.Nest:
  """Reads rows with the frames before them.

  Args:
    observation: Nest of arrays `[places, ...]` with single frames.
    places: Returns the places `[...]` of the frames that are `age` steps older
      than the rows, or of the first frame of the episode.
    num_frames: F.

  Returns:
    Nest of `[...]` rows.
  """
  leaves = [
      read_leaf(leaf, places, num_frames if is_stacked else 1)
      for leaf, is_stacked in zip(
          tree.flatten(observation), are_stacked(observation, 1)
      )
  ]
  return tree.unflatten_as(observation, leaves)


def read_leaf(
    leaf: np.ndarray, places: Callable[[int], np.ndarray], num_frames: int
) -> np.ndarray:
  """Reads rows of one leaf `[places, ...]`; see `read`."""
  present = places(0)
  if num_frames == 1:
    return np.take(leaf, present, axis=0)
  earlier = [places(age) for age in range(num_frames - 1, 0, -1)]
  # Pixels and vectors are copied as units, in half the time of their numbers.
  leaf = np.ascontiguousarray(leaf)
  units = leaf.view(f'V{leaf.shape[-1] * leaf.itemsize}')[..., 0]
  rows = np.empty(present.shape + units.shape[1:] + (num_frames,), units.dtype)
  for i, frames in enumerate([*earlier, present]):
    rows[..., i] = np.take(units, frames, axis=0)
  return rows.view(leaf.dtype)


def read_episode(
    observation: types.Nest, index: np.ndarray, num_frames: int
) -> types.Nest:
  """Reads rows `index` `[...]` of one episode's observations; see `read`."""
  return read(
      observation, lambda age: np.maximum(index - age, 0), num_frames
  )


class FrameHistory:
  """Stacks the frames of an episode while it is played."""

  def __init__(self, num_frames: int):
    check(num_frames)
    self._num_frames = num_frames
    self._observations: List[types.Nest] = []

  def see(self, time_step: dm_env.TimeStep) -> dm_env.TimeStep:
    """Returns the next time step of the episode with stacked frames."""
    if self._num_frames == 1:
      return time_step
    if time_step.first():
      self._observations = []
    # A copy, because an environment may reuse its arrays.
    self._observations.append(
        tree.map_structure(np.array, time_step.observation)
    )
    self._observations = self._observations[-self._num_frames :]
    missing = self._num_frames - len(self._observations)
    frames = self._observations[:1] * missing + self._observations

    present = time_step.observation
    leaves = [
        np.concatenate(stack, axis=-1) if is_stacked else stack[-1]
        for is_stacked, *stack in zip(
            are_stacked(present), *map(tree.flatten, frames)
        )
    ]
    return time_step._replace(
        observation=tree.unflatten_as(present, leaves)
    )


class StackedFrames(dm_env.Environment):
  """An environment whose observations have stacked frames."""

  def __init__(self, environment: dm_env.Environment, num_frames: int):
    self._environment = environment
    self._num_frames = num_frames
    self._history = FrameHistory(num_frames)

  def reset(self) -> dm_env.TimeStep:
    return self._history.see(self._environment.reset())

  def step(self, action) -> dm_env.TimeStep:
    return self._history.see(self._environment.step(action))

  def observation_spec(self):
    single = self._environment.observation_spec()
    leaves = [
        specs.Array(shape, spec.dtype, spec.name)
        for spec, shape in zip(
            tree.flatten(single), stacked_shapes(single, self._num_frames)
        )
    ]
    return tree.unflatten_as(single, leaves)

  def action_spec(self):
    return self._environment.action_spec()

  def reward_spec(self):
    return self._environment.reward_spec()

  def discount_spec(self):
    return self._environment.discount_spec()


def _is_stacked(x: Any, path: Sequence[Any], num_batch_axes: int) -> bool:
  """Returns whether frames of an array or a spec at a path are stacked."""
  rank = len(x.shape) - num_batch_axes
  dtype = np.dtype(getattr(x.dtype, 'as_numpy_dtype', x.dtype))
  if rank == 3:
    return dtype == np.uint8
  return (
      rank == 1
      and np.issubdtype(dtype, np.floating)
      and x.shape[-1] > 0
      and INSTRUCTION not in path
  )
