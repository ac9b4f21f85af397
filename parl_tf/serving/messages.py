"""Messages of the policy protocol: msgpack with NumPy arrays, never pickle.

The encoding is that of openpi's client, the package openpi-client of
github.com/Physical-Intelligence/openpi. An array is a map with the bytes keys
`__ndarray__` (True), `data` (C order), `dtype` (NumPy's string) and `shape`. A
NumPy scalar is a map with the bytes keys `__npgeneric__` (True), `data` and
`dtype`.
"""

from typing import Any, Tuple, Union

import msgpack
import numpy as np

# Booleans, integers, floats, bytes and text. Objects would need pickle.
_KINDS = 'biufSU'
_MAX_AXES = 32
# Maximum number of entries of a list or map. Large data belongs in arrays.
_MAX_ENTRIES = 65_536


class MessageError(ValueError):
  """A message that cannot be packed or unpacked."""


def pack(message: Any) -> bytes:
  """Packs maps, lists, numbers, text and arrays.

  Raises:
    MessageError: If a value has a type that the protocol does not support.
  """
  try:
    return msgpack.packb(message, default=_encoded)
  except (TypeError, OverflowError, ValueError) as error:
    raise MessageError(f'The message cannot be packed: {error}') from error


def unpack(data: Union[str, bytes]) -> Any:
  """Unpacks a message; its arrays are writable copies.

  Raises:
    MessageError: If the message is malformed, or contains an array of objects
      or one whose shape does not match its data.
  """
  try:
    return msgpack.unpackb(
        data,
        object_hook=_decoded,
        ext_hook=_refuse_extension,
        max_array_len=_MAX_ENTRIES,
        max_map_len=_MAX_ENTRIES,
    )
  except (
      TypeError, OverflowError, ValueError, msgpack.UnpackException
  ) as error:
    raise MessageError(f'The message is malformed: {error}') from error


def _encoded(value: Any) -> Any:
  """Encodes an array or a NumPy scalar as a map."""
  if not isinstance(value, (np.ndarray, np.generic)):
    raise TypeError(f'values of type {type(value).__name__} are not allowed')
  dtype = _allowed(value.dtype.str)
  if isinstance(value, np.generic):
    return {
        b'__npgeneric__': True, b'data': value.item(), b'dtype': dtype.str
    }
  return {
      b'__ndarray__': True,
      b'data': value.tobytes(),
      b'dtype': dtype.str,
      b'shape': value.shape,
  }


def _decoded(entries: Any) -> Any:
  """Returns the array or NumPy scalar that a map encodes, or the map itself."""
  if b'__ndarray__' in entries:
    dtype = _allowed(entries.get(b'dtype'))
    shape = _checked_shape(entries.get(b'shape'))
    data = entries.get(b'data')
    if not isinstance(data, bytes):
      raise ValueError('the data of an array must be bytes')
    size = dtype.itemsize
    for length in shape:
      size *= length
    if size != len(data):
      raise ValueError(
          f'an array of shape {list(shape)} and dtype {dtype} must have {size} '
          f'bytes, got {len(data)}'
      )
    return np.ndarray(shape, dtype, data).copy()
  if b'__npgeneric__' in entries:
    value = entries.get(b'data')
    if not isinstance(value, (bool, int, float, str, bytes)):
      raise ValueError(
          f'a NumPy scalar must be a number, text or bytes, got {value!r}'
      )
    return _allowed(entries.get(b'dtype')).type(value)
  return entries


def _allowed(name: Any) -> np.dtype:
  """Returns the dtype of this name; refuses those that would need pickle."""
  if not isinstance(name, str):
    raise ValueError(f'a dtype must be a string, got {name!r}')
  dtype = np.dtype(name)
  # Without bytes, any shape would fit the data.
  if dtype.kind not in _KINDS or not dtype.itemsize:
    raise ValueError(f'arrays of dtype {dtype} are not allowed')
  return dtype


def _checked_shape(shape: Any) -> Tuple[int, ...]:
  """Validates a shape from a message and returns it as a tuple."""
  if (
      not isinstance(shape, (list, tuple))
      or len(shape) > _MAX_AXES
      or not all(type(length) is int and length >= 0 for length in shape)
  ):
    raise ValueError(f'a shape must be a short list of sizes, got {shape!r}')
  return tuple(shape)


def _refuse_extension(code: int, data: bytes) -> Any:
  raise ValueError(f'extension type {code} ({len(data)} bytes) is not allowed')
