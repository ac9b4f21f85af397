"""Stateless random numbers, keyed by purpose and drawn row by row.

Every draw is a pure function of a seed pair. A replica of a distribution
strategy, or a part of a batch, draws the noise of the whole batch and keeps its
own rows, so a row gets the same noise however the batch is divided. The first
axis of a `shape` is always the batch.

This module converts integer draws to floats itself: for a given seed, XLA and
plain graphs draw the same integers but convert them to different floats.

Draws equal those of `tf.random` with `alg='philox'`, which creates three times
as many operations. They were a fifth of all operations of a run, and each takes
time to trace and to launch.
"""

import contextlib
import contextvars
import math
from typing import Any, Iterator, Optional, Tuple, Union
import zlib

import numpy as np
import tensorflow as tf

SEED_SPEC = tf.TensorSpec([2], tf.int32, 'seed')

_PHILOX = 1  # The default algorithm differs between XLA and plain graphs.
# From core/kernels/stateless_random_ops.cc of TensorFlow.
_SCRAMBLING_KEY = np.array([0x02461E293EC8F720], np.uint64)
_NUM_STEPS = 2**23
_SCALAR = np.zeros([0], np.int32)

# First row and size of a part of a batch, and the size of the whole batch,
# while the part is traced.
_PART: contextvars.ContextVar[Optional[Tuple[Any, Any, Any]]] = (
    contextvars.ContextVar('part', default=None)
)


def from_integer(seed: int) -> tf.Tensor:
  """Returns the seed `[2]` int32 of an integer in [0, 2^62)."""
  return tf.constant([seed & 0x7FFFFFFF, seed >> 31], tf.int32)


def fold_in(seed: tf.Tensor, *data: Any) -> tf.Tensor:
  """Derives a new seed from `seed` and each of `data` in turn.

  Args:
    seed: `[2]` int32 seed pair.
    *data: Integers, integer tensors, or strings that name a purpose.

  Returns:
    `[2]` int32 seed pair.
  """
  seed = tf.convert_to_tensor(seed, tf.int32)
  for item in data:
    if isinstance(item, str):
      item = zlib.crc32(item.encode()) & 0x7FFFFFFF
    key, counter = _key_and_counter(seed)
    word = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=_SCALAR,
        key=key,
        counter=counter,
        alg=_PHILOX,
        dtype=tf.int32,
    )
    seed = tf.stack([word, tf.cast(item, tf.int32)])
  return seed


@contextlib.contextmanager
def part_of_batch(
    start: tf.Tensor,
    size: Union[int, tf.Tensor],
    batch_size: Union[int, tf.Tensor],
) -> Iterator[None]:
  """Makes draws of a part of a batch equal those rows of the whole batch.

  A draw may have several rows for each row of the batch, those of one row in
  succession. Not supported with several replicas.

  Args:
    start: Scalar int32, the first row of the part.
    size: Number of rows of the part.
    batch_size: Number of rows of the whole batch.
  """
  token = _PART.set((start, size, batch_size))
  try:
    yield
  finally:
    _PART.reset(token)


def normal(seed: tf.Tensor, shape: Any) -> tf.Tensor:
  """Returns standard normal draws of `shape`."""
  # `_rows` must slice after `erfinv`, whose last bit depends on a number's
  # position in the array.
  return _rows(
      lambda s: math.sqrt(2.0) * tf.math.erfinv(_uniform(seed, s, -1.0, 1.0)),
      shape,
  )


def uniform(
    seed: tf.Tensor, shape: Any, low: float = 0.0, high: float = 1.0
) -> tf.Tensor:
  """Returns uniform draws of `shape` between `low` and `high`.

  The draws are midpoints of 2^23 equal intervals. They are exact in float32 and
  never equal the limits of (0, 1) or (-1, 1).
  """
  return _rows(lambda s: _uniform(seed, s, low, high), shape)


def integers(seed: tf.Tensor, shape: Any, num_values: int) -> tf.Tensor:
  """Returns int32 draws of `shape` in [0, `num_values`)."""
  return _rows(lambda s: _integers(seed, s, num_values), shape)


def categorical(seed: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
  """Draws int32 indices `[B]` from `logits` `[B, K]` by the Gumbel trick."""
  noise = uniform(seed, tf.shape(logits))
  gumbel = -tf.math.log(-tf.math.log(noise))
  return tf.argmax(logits + gumbel, axis=-1, output_type=tf.int32)


def subset(seed: tf.Tensor, num_drawn: int, num_members: int) -> tf.Tensor:
  """Draws M of E members with replacement, as one-hot rows `[M, E]`.

  Every replica draws the same members.
  """
  return tf.one_hot(_integers(seed, [num_drawn], num_members), num_members)


def distinct_members(
    seed: tf.Tensor, num_drawn: int, num_members: int
) -> tf.Tensor:
  """Draws M different ones of E members, as one-hot rows `[M, E]`.

  Every replica draws the same members.

  Raises:
    ValueError: If M exceeds E.
  """
  if num_drawn > num_members:
    raise ValueError(
        f'At most {num_members} different members can be drawn, got'
        f' {num_drawn}.'
    )
  order = tf.argsort(_integers(seed, [num_members], _NUM_STEPS))
  return tf.one_hot(order[:num_drawn], num_members)


def _integers(seed, shape, num_values):
  key, counter = _key_and_counter(seed)
  return tf.raw_ops.StatelessRandomUniformIntV2(
      shape=tf.convert_to_tensor(shape, tf.int32),
      key=key,
      counter=counter,
      alg=_PHILOX,
      minval=0,
      maxval=num_values,
  )


def _key_and_counter(seed):
  """Scrambles a seed into the key `[1]` and counter `[2]` of Philox."""
  words = tf.raw_ops.StatelessRandomUniformFullIntV2(
      shape=[2, 2],
      key=_SCRAMBLING_KEY,
      counter=tf.cast(seed, tf.uint64),
      alg=_PHILOX,
      dtype=tf.uint32,
  )
  words = tf.bitcast(words, tf.uint64)
  return tf.split(words, 2)[0], words * np.array([0, 1], np.uint64)


def _uniform(seed, shape, low, high):
  index = tf.cast(_integers(seed, shape, _NUM_STEPS), tf.float32)
  return low + (high - low) * ((index + 0.5) / _NUM_STEPS)


def _rows(draw, shape):
  part = _PART.get()
  if part is not None:
    start, size, batch_size = part
    if not isinstance(shape, (list, tuple)):  # These keep what is static.
      shape = tf.unstack(tf.convert_to_tensor(shape, tf.int32))
    num_rows, *others = shape
    known = tf.get_static_value(num_rows)
    if known is not None and known % size:
      raise ValueError(
          f'The first axis of a draw must be the batch, here {size} rows or a'
          f' multiple, got {known}.'
      )
    factor = num_rows // size
    noise = draw(tf.stack([batch_size * factor, *others]))
    # XLA would compile a slice again for each `start`.
    return tf.gather(noise, start * factor + tf.range(num_rows))
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return draw(shape)
  shape = tf.convert_to_tensor(shape, tf.int32)
  num_rows = shape[0]
  noise = draw(
      tf.concat([[num_rows * context.num_replicas_in_sync], shape[1:]], axis=0)
  )
  start = context.replica_id_in_sync_group * num_rows
  return noise[start : start + num_rows]
