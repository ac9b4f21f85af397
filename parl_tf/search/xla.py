"""Functions that XLA compiles, unless it lacks one of their operations."""

import functools
from typing import Any, Callable, Iterator, Optional

from absl import logging
import tensorflow as tf

# The public API does not tell which operations XLA has.
from tensorflow.python.framework import kernels

# Nodes of a function's graph that are not operations of its program.
_NOT_OPERATIONS = ('Placeholder', 'VarHandleOp')


def function(fn: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `fn` as an XLA program, or as a graph if XLA lacks an operation.

  A policy or critic may use any operation of TensorFlow, of which XLA has most.
  The first trace finds those that it lacks; a warning names one of them and the
  binding that avoids the attempt.

  Args:
    fn: Function of tensors and nests of tensors.
  """
  graph_function = tf.function(fn, autograph=False)

  def checked(*args, **kwargs):
    result = fn(*args, **kwargs)
    missing = _missing(tf.compat.v1.get_default_graph())
    if missing is not None:
      raise _MissingOperation(missing)
    return result

  program: Optional[Callable[..., Any]] = tf.function(
      checked, autograph=False, jit_compile=True
  )

  def run(*args, **kwargs):
    nonlocal program
    if program is not None:
      try:
        return program(*args, **kwargs)
      except _MissingOperation as error:
        _warn(error.operation)
        program = None
    return graph_function(*args, **kwargs)

  return run


class _MissingOperation(Exception):  # pylint: disable=g-bad-exception-name
  """XLA lacks an operation of a graph."""

  def __init__(self, operation: str):
    super().__init__(operation)
    self.operation = operation


@functools.lru_cache(maxsize=None)
def _warn(operation: str) -> None:
  logging.warning(
      'XLA lacks the operation %s of the policy or critic, so that the search'
      ' runs without XLA and takes longer. Bind `Search.jit_compile = False` to'
      ' silence this message.',
      operation,
  )


def _missing(graph: tf.Graph) -> Optional[str]:
  """Returns an operation of the graph that XLA lacks, or None."""
  for name in sorted(set(_operations(graph))):
    if name not in _NOT_OPERATIONS and not _is_in_xla(name):
      return name
  return None


def _operations(graph: tf.Graph) -> Iterator[str]:
  """Yields the names of the operations of a graph and its functions."""
  definition = graph.as_graph_def()
  for node in definition.node:
    yield node.op
  for one in definition.library.function:
    for node in one.node_def:
      yield node.op


@functools.lru_cache(maxsize=None)
def _is_in_xla(operation: str) -> bool:
  _register_kernels()
  registered = kernels.get_registered_kernels_for_op(operation).kernel
  return any(kernel.device_type == 'XLA_CPU_JIT' for kernel in registered)


@functools.lru_cache(maxsize=None)
def _register_kernels() -> None:
  """Makes TensorFlow register XLA's kernels, as its first compilation does."""
  with tf.init_scope(), tf.device('/CPU:0'):
    tf.function(lambda: tf.zeros([]), jit_compile=True)()
