"""The learner's weights, sent to the actors through a Reverb table."""

from concurrent import futures
import itertools
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import tensorflow as tf
from tf_agents.experimental.distributed import reverb_variable_container

from parl_tf.distributed import newest_item
from parl_tf.distributed import server_link
from parl_tf.replay.reverb_import import reverb

TABLE = reverb_variable_container.DEFAULT_TABLE
PROGRESS_TABLE = 'progress'

# Weights that seem unchanged are received again after this time.
_SAME_SECONDS = 5.0
# Serializing and sending weights takes longer than other requests.
_TRANSFER_SECONDS = 60.0


class Progress(NamedTuple):
  """What the learner has done; each field is `[1]`.

  Attributes:
    is_over: bool, whether it has finished.
    num_episodes: int64, online episodes that it has trained on.
    train_step: int64, its training steps.
  """

  is_over: np.ndarray
  num_episodes: np.ndarray
  train_step: np.ndarray


def signature(variables: Sequence[tf.Variable]) -> Dict[str, Any]:
  """Returns the specs of the table's item.

  Args:
    variables: Variables of the acting policies.
  """
  return {
      'is_over': tf.TensorSpec([], tf.bool),
      'num_episodes': tf.TensorSpec([], tf.int64),
      'train_step': tf.TensorSpec([], tf.int64),
      'variables': tuple(tf.TensorSpec(v.shape, v.dtype) for v in variables),
  }


def make_tables(item_signature: Dict[str, Any]) -> List[reverb.Table]:
  """Returns the tables of the newest weights, and of the newest progress.

  Args:
    item_signature: Result of `signature`.
  """
  progress = Progress(
      is_over=tf.TensorSpec([1], tf.bool, 'is_over'),
      num_episodes=tf.TensorSpec([1], tf.int64, 'num_episodes'),
      train_step=tf.TensorSpec([1], tf.int64, 'train_step'),
  )
  return [
      newest_item.make_table(TABLE, item_signature),
      newest_item.make_table(PROGRESS_TABLE, progress),
  ]


class Weights:
  """Sends the weights of this process, or receives those of the service.

  Attributes:
    num_episodes: int64 variable with the number of online episodes that the
      learner has trained on.
    is_over: bool variable that is true once the learner has finished.
  """

  def __init__(
      self,
      link: server_link.ServerLink,
      variables: Sequence[tf.Variable],
      train_step: tf.Variable,
  ):
    """Initializes the weights; sends no request.

    Args:
      link: Link to the service.
      variables: Variables of the acting policies.
      train_step: int64 counter of the training steps of these weights.
    """
    self._link = link
    self.is_over = tf.Variable(False, trainable=False)
    self.num_episodes = tf.Variable(0, dtype=tf.int64, trainable=False)
    self._values = {
        'is_over': self.is_over,
        'num_episodes': self.num_episodes,
        'train_step': train_step,
        'variables': tuple(variables),
    }
    self._container: Optional[
        reverb_variable_container.ReverbVariableContainer
    ] = None
    self._num_sent = 0  # Number of pushes to the service at the last update.
    self._received_at = -_SAME_SECONDS
    # Transfers that took longer than a call waits, by name.
    self._under_way: Dict[str, futures.Future] = {}

  def are_published(self) -> bool:
    """Returns whether the service has weights; after a restart it has none.

    Raises:
      ConnectionError: If the service does not answer in time.
    """
    return bool(self._link.size(TABLE))

  def check_signature(self) -> None:
    """Checks that the service takes these variables; it need not be ready.

    Raises:
      ConnectionError: If the service does not answer in time.
      ValueError: If it has other variables.
    """
    self._check_signature(self._link.table(TABLE))

  def publish(self) -> None:
    """Sends the progress, then the weights.

    If the learner is killed between the two, `withdraw_end` still sees that it
    had finished.

    Raises:
      ConnectionError: If the service does not accept them in time.
      tf.errors.InvalidArgumentError: If its signature differs.
    """
    progress = Progress(
        *(
            np.reshape(self._values[name].numpy(), [1])
            for name in Progress._fields
        )
    )
    newest_item.send(self._link, PROGRESS_TABLE, progress)
    values = tf.nest.map_structure(lambda v: v.value(), self._values)
    if 'push' in self._under_way:  # It must not arrive after this one.
      self._transfer('push', lambda container: None)
    self._transfer('push', lambda container: container.push(values))

  def receive(self) -> Optional[bool]:
    """Receives the weights of the service; None if it has none yet.

    Calling this method often is cheap. It transfers weights only if the number
    of pushes changed, or after some seconds, because a restarted service starts
    to count again.

    Raises:
      ConnectionError: If the service does not answer in time.
      ValueError: If it has other variables.
    """
    table = self._link.table(TABLE)
    self._check_signature(table)
    if not table.current_size:
      return None
    num_sent = table.rate_limiter_info.insert_stats.completed
    is_same = num_sent == self._num_sent
    if not is_same or time.monotonic() - self._received_at >= _SAME_SECONDS:
      # Assigned here, because a request that is given up goes on in its thread:
      # it would change the weights within an episode.
      self._num_sent, values = self._transfer(
          'pull', lambda container: (num_sent, container.pull())
      )
      tf.nest.map_structure(
          lambda variable, value: variable.assign(value),
          self._values,
          values,
          check_types=False,
      )
      # After the transfer, which may take longer than `_SAME_SECONDS`.
      self._received_at = time.monotonic()
    return True

  def _check_signature(self, table) -> None:
    variables = self._values['variables']
    pairs = itertools.zip_longest(
        table.signature['variables'], signature(variables)['variables']
    )
    for index, (there, here) in enumerate(pairs):
      if _describe(there) != _describe(here):
        name = f'number {index}'
        if here is not None:
          name += f' ({variables[index].name.partition(":")[0]})'
        raise ValueError(
            f'The replay service at {self._link.address} must have the networks'
            f' of this process, but variable {name} is'
            f' {_describe(there)} there, {_describe(here)} here. Start all'
            ' roles with the same gin files.'
        )

  def _transfer(self, name, function):
    """Returns the result of a transfer, or of one that is still under way.

    Otherwise each attempt would transfer all weights again, beside the others.
    """
    def transfer():
      if self._container is None:
        self._container = reverb_variable_container.ReverbVariableContainer(
            self._link.address
        )
      try:
        return function(self._container)
      except tf.errors.InvalidArgumentError:
        raise
      except tf.errors.OpError as error:
        # A restart of the service breaks the connection.
        raise ConnectionError(
            f'A request for table {TABLE} of the replay server at '
            f'{self._link.address} failed: {error}'
        ) from error

    answer = self._under_way.pop(name, None) or self._link.begin(transfer)
    try:
      return self._link.result(TABLE, answer, _TRANSFER_SECONDS)
    except server_link.SlowAnswerError:
      self._under_way[name] = answer
      raise


def _describe(spec: Optional[tf.TensorSpec]) -> str:
  """Formats a spec for an error message."""
  if spec is None:
    return 'missing'
  return f'{spec.dtype.name} of shape {spec.shape.as_list()}'


def withdraw_end(link: server_link.ServerLink) -> None:
  """Removes the weights of a learner that has finished.

  Actors then wait for those of the next learner.

  Raises:
    ConnectionError: If the service does not answer in time.
  """
  progress = read_progress(link)
  if progress is not None and progress['is_over']:
    link.call(TABLE, lambda: link.client.reset(TABLE))
    link.call(PROGRESS_TABLE, lambda: link.client.reset(PROGRESS_TABLE))


def read_progress(link: server_link.ServerLink) -> Optional[Dict[str, int]]:
  """Returns the learner's progress, without transferring its weights.

  Returns:
    `is_over`, `num_episodes` and `train_step`; None if the learner has not yet
    published any.

  Raises:
    ConnectionError: If the service does not answer in time.
  """
  data = newest_item.read(link, PROGRESS_TABLE)
  if data is None:
    return None
  return {
      name: int(value.item()) for name, value in zip(Progress._fields, data)
  }
