"""Stacks of consecutive frames, of which each is stored only once.

Episodes, logs and tables contain single observations. A network that needs
motion sees F of them, oldest first along the last axis: images
`[height, width, F * channels]` and vectors `[F * size]`. Vectors of integers,
such as the tokens of an instruction, are not stacked. Stacks are made where
observations are read, and never reach across the start of an episode; there,
the first frame is repeated.
"""

from typing import Any, Callable, List, Optional

import dm_env
from dm_env import specs
import numpy as np
import tree

from parl_tf import types


def check(num_frames: int) -> None:
  """Raises a ValueError if `num_frames` is not positive."""
  if num_frames < 1:
    raise ValueError(f'`num_frames` must be positive, got {num_frames}.')


def stacked_shape(spec, num_frames: int) -> List[int]:
  """Returns the shape of a spec's leaf with stacked frames.

  Args:
    spec: Spec of an image `[height, width, channels]` uint8, or of a vector.
    num_frames: F.
  """
  shape = list(spec.shape)
  if is_stacked(spec):
    shape[-1] *= num_frames
  return shape


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
    leaves = [
        np.tile(leaf, num_frames if is_stacked(single) else 1)
        if leaf is not None
        else None
        for leaf, single in zip(tree.flatten(statistics), tree.flatten(spec))
    ]
    return tree.unflatten_as(statistics, leaves)

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
  for stacked, single in zip(tree.flatten(stacked_spec), tree.flatten(spec)):
    if is_stacked(single):
      num_frames, rest = divmod(stacked.shape[-1], single.shape[-1])
      return 1 if rest else max(1, num_frames)
  return 1


def newest(observation: types.Nest, num_frames: int) -> types.Nest:
  """Returns an observation with the newest frame of each of its stacks."""
  return tree.map_structure(
      lambda x: (
          x[..., -(x.shape[-1] // num_frames):] if is_stacked(x) else x
      ),
      observation,
  )


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
  present = places(0)
  earlier = [places(age) for age in range(num_frames - 1, 0, -1)]

  def read_leaf(leaf):
    if not earlier or not is_stacked(leaf, num_batch_axes=1):
      return np.take(leaf, present, axis=0)
    # Pixels are copied as units, in half the time of their channels.
    leaf = np.ascontiguousarray(leaf)
    pixels = leaf.view(f'V{leaf.shape[-1] * leaf.itemsize}')[..., 0]
    rows = np.empty(
        present.shape + pixels.shape[1:] + (num_frames,), pixels.dtype
    )
    for i, frames in enumerate([*earlier, present]):
      rows[..., i] = np.take(pixels, frames, axis=0)
    return rows.view(leaf.dtype)

  return tree.map_structure(read_leaf, observation)


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

    def stack(*leaves):
      if is_stacked(leaves[-1]):
        return np.concatenate(leaves, axis=-1)
      return leaves[-1]

    return time_step._replace(observation=tree.map_structure(stack, *frames))


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
    return tree.map_structure(
        lambda spec: specs.Array(
            stacked_shape(spec, self._num_frames), spec.dtype, spec.name
        ),
        self._environment.observation_spec(),
    )

  def action_spec(self):
    return self._environment.action_spec()

  def reward_spec(self):
    return self._environment.reward_spec()

  def discount_spec(self):
    return self._environment.discount_spec()


def is_stacked(x: Any, num_batch_axes: int = 0) -> bool:
  """Returns whether frames of an array or a spec are stacked.

  Args:
    x: Image `[..., height, width, channels]` uint8, or vector `[..., size]`.
    num_batch_axes: Number of axes before those of a single frame.
  """
  rank = len(x.shape) - num_batch_axes
  dtype = np.dtype(getattr(x.dtype, 'as_numpy_dtype', x.dtype))
  if rank == 3:
    return dtype == np.uint8
  return rank == 1 and np.issubdtype(dtype, np.floating)
