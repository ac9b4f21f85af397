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
    places = {'cloning': f'{_name(agent.generative_policy)}.distillation_loss'}
    if agent.critic is not None:
      places['critic'] = f'{_name(agent.critic)}.loss'
    if 'improver' in agent.checkpoint_items:
      improver = agent.checkpoint_items['improver']
      places['policy'] = f'{_name(improver)}.loss'
    place = f' ({places[part]})' if part in places else ''
    raise ValueError(
        f'The {part} loss{place} is not finite after'
        f' {int(agent.train_step_counter.numpy())} training steps. If it was'
        ' finite for a while, a learning rate may be too high. The latest'
        ' checkpoint is from before.'
    ) from error


def _name(owner: Any) -> str:
  return type(owner).__name__
