"""Functions that XLA compiles, unless it does not support an operation."""

import contextlib
import contextvars
import functools
from typing import Any, Callable, Iterator, Optional

from absl import logging
import tensorflow as tf

# The public API does not list the operations that XLA supports.
from tensorflow.python.framework import kernels

# Nodes of a function's graph that are not operations of its program.
_NOT_OPERATIONS = ('Placeholder', 'VarHandleOp')

# Whether the function that is being traced is part of a program.
_IN_PROGRAM: contextvars.ContextVar[bool] = contextvars.ContextVar(
    'in_program', default=False
)


def is_in_program() -> bool:
  """Returns whether the function that is being traced is part of a program."""
  return _IN_PROGRAM.get()


def is_on_gpu() -> bool:
  """Returns whether TensorFlow runs operations on a GPU."""
  return bool(tf.config.get_visible_devices('GPU'))


@functools.lru_cache(maxsize=None)
def is_available() -> bool:
  """Returns whether XLA can compile for the device of the operations.

  TensorFlow contains XLA's compiler for CPUs. For GPUs it needs `ptxas` and
  `libdevice` of CUDA, which `tensorflow[and-cuda]` installs.
  """
  if not is_on_gpu():
    return True
  try:
    with tf.init_scope():
      # The exponential is a function of `libdevice`.
      tf.function(tf.exp, autograph=False, jit_compile=True)(tf.zeros([1]))
  except tf.errors.OpError as error:
    logging.warning(
        'XLA cannot compile for the GPU, so that training takes several times'
        ' as long. Most often its compiler is missing: pip install'
        ' "tensorflow[and-cuda]==%s". %s',
        tf.__version__,
        error,
    )
    return False
  return True


def function(fn: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `fn` as an XLA program, or as a graph if XLA cannot compile it.

  A policy or critic may use any operation of TensorFlow; XLA supports most. The
  first trace finds one that it does not support, and a warning names it. An
  operation that XLA supports for other types or static shapes only is still an
  error; `Search.jit_compile = False` avoids it.

  Args:
    fn: Function of tensors and nests of tensors.
  """
  graph_function = tf.function(fn, autograph=False)

  def checked(*args, **kwargs):
    token = _IN_PROGRAM.set(True)
    try:
      result = fn(*args, **kwargs)
    finally:
      _IN_PROGRAM.reset(token)
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


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
  """Adds a hint to errors of XLA's compiler.

  XLA supports some operations only in certain cases, for instance the gradient
  of `tf.broadcast_to` only outside of loops.

  Raises:
    RuntimeError: If XLA cannot compile a function.
  """
  try:
    yield
  except tf.errors.OpError as error:
    if 'tf2xla' not in str(error):
      raise
    raise RuntimeError(
        'XLA cannot compile a training step with this policy or critic; the'
        ' error above names the operation. To train without XLA, more slowly,'
        ' bind `Search.jit_compile = False`.'
    ) from error


class _MissingOperation(Exception):  # pylint: disable=g-bad-exception-name
  """XLA does not support an operation of a graph."""

  def __init__(self, operation: str):
    super().__init__(operation)
    self.operation = operation


@functools.lru_cache(maxsize=None)
def _warn(operation: str) -> None:
  logging.warning(
      'XLA does not support the operation %s of the policy or critic. The'
      ' search runs without XLA and is slower. To silence this warning, bind'
      ' `Search.jit_compile = False`.',
      operation,
  )


def _missing(graph: tf.Graph) -> Optional[str]:
  """Returns an operation of the graph that XLA does not support, or None."""
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
  device = 'XLA_GPU_JIT' if is_on_gpu() else 'XLA_CPU_JIT'
  return any(kernel.device_type == device for kernel in registered)


@functools.lru_cache(maxsize=None)
def _register_kernels() -> None:
  """Makes TensorFlow register XLA's kernels, as its first compilation does."""
  with tf.init_scope(), tf.device('/CPU:0'):
    tf.function(lambda: tf.zeros([]), jit_compile=True)()
