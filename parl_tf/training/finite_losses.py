"""Names the loss that is not finite."""

import contextlib
import re
from typing import Any, Iterator

import tensorflow as tf

_FOUND = re.compile(r'The (\w+) loss is not finite')  # See `trained_part`.


@contextlib.contextmanager
def explained_errors(agent: Any) -> Iterator[None]:
  """Says of a loss that is not finite whose it is, and when.

  Args:
    agent: The agent that trains meanwhile.

  Raises:
    ValueError: In place of TensorFlow's error.
  """
  try:
    yield
  except tf.errors.InvalidArgumentError as error:
    found = _FOUND.search(str(error))
    if found is None:
      raise
    part = found[1]
    owner, method = agent.generative_policy, 'distillation_loss'
    if part == 'critic':
      owner, method = agent.critic, 'loss'
    raise ValueError(
        f'The {part} loss is not finite after'
        f' {int(agent.train_step_counter.numpy())} training steps; see'
        f' {type(owner).__name__}.{method}. If it was finite for a while, a'
        ' learning rate may be too high. The latest checkpoint is from before.'
    ) from error
