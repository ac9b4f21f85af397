"""Explains the errors of XLA."""

import contextlib
import re
from typing import Iterator

import tensorflow as tf

_UNSUPPORTED = re.compile(r'unsupported operations.*?: *(\w+)', re.DOTALL)


@contextlib.contextmanager
def errors_explained() -> Iterator[None]:
  """Names the operation and the binding if XLA cannot compile a policy.

  Raises:
    ValueError: Instead of TensorFlow's error, if an operation of a compiled
      function has no implementation in XLA.
  """
  try:
    yield
  except tf.errors.OpError as error:
    unsupported = _UNSUPPORTED.search(error.message or '')
    if 'XLA' not in (error.message or '') or unsupported is None:
      raise
    raise ValueError(
        f'XLA cannot compile the operation {unsupported[1]} of the policy or'
        ' critic. Bind `Search.jit_compile = False`.'
    ) from error
