"""The learner's view of episodes that other processes collect."""

import time
from typing import Optional

from absl import logging

from parl_tf.distributed import directory_id
from parl_tf.distributed import journal as journal_lib
from parl_tf.distributed import learner_claim
from parl_tf.distributed import server_link
from parl_tf.distributed import weights as weights_lib
from parl_tf.replay import experience as experience_lib
from parl_tf.training import run_constants
from parl_tf.training import sources

# Minimum interval between two uploads of weights while episodes are waiting.
_PUBLISH_SECONDS = 1.0


class RemoteCollection:
  """Receives episodes of a replay service and publishes weights to it."""

  def __init__(
      self,
      link: server_link.ServerLink,
      weights: weights_lib.Weights,
      constants: run_constants.RunConstants,
      dataset_id: int,
      root_dir: str,
  ):
    """Initializes the collection; sends no request.

    Args:
      link: Link to the service.
      weights: Weights of the learner.
      constants: Constants of this process; the service must have the same.
      dataset_id: Digest of the dataset; the service must have the same.
      root_dir: Directory of the learner; bound to the run of the service's log.

    Raises:
      OSError: If the directory cannot be read or written.
    """
    self._dataset_id = dataset_id
    self._learner_id = directory_id.read_or_make(root_dir, directory_id.LEARNER)
    self._root_dir = root_dir
    self._constants = constants
    self._link = link
    self._reader = journal_lib.Reader(link)
    self._weights = weights
    self._published_at = -_PUBLISH_SECONDS
    self._journal: Optional[journal_lib.Journal] = None

  def begin(self) -> None:
    """Claims the service if it is up, and withdraws an end of training.

    Raises:
      ValueError: If the service has another configuration, run or dataset,
        other networks, or serves another learner.
    """
    try:
      if self._read_journal() is None:
        return  # It is starting, so it has no weights.
      learner_claim.claim(self._link, self._learner_id)
      weights_lib.withdraw_end(self._link)
    except ConnectionError as error:
      logging.info('Training begins without the replay service: %s', error)

  def next(self, number: int) -> sources.Collected:
    """Waits for episode `number` of the service's log.

    Publishes the weights, which were trained on all earlier episodes.

    Raises:
      ValueError: As in `begin`.
    """
    if self._journal is None:
      self._journal = self._link.wait_for(
          journal_lib.TABLE, self._read_journal
      )
    self._weights.num_episodes.assign(number)
    if time.monotonic() - self._published_at >= _PUBLISH_SECONDS:
      self._publish()
    if number >= len(self._journal.num_steps):
      # While the learner waits, its weights do not change.
      self._publish()
      self._journal = self._link.wait_for(
          journal_lib.TABLE, lambda: self._journal_with(number)
      )
    return sources.Collected(
        int(self._journal.num_steps[number]),
        bool(self._journal.success[number]),
    )

  def finish(self, num_episodes: int) -> None:
    """Publishes the final weights and the end of training.

    Args:
      num_episodes: Number of online episodes that they were trained on.

    Raises:
      ValueError: As in `begin`.
    """
    self._weights.num_episodes.assign(num_episodes)
    self._weights.is_over.assign(True)
    self._publish()

  def _publish(self):
    self._link.wait_for(weights_lib.TABLE, self._send)
    self._published_at = time.monotonic()

  def _send(self):
    # A service without weights has just been started, perhaps with another log.
    # Collectors of another run must not get these weights.
    if not self._weights.are_published() and self._read_journal() is None:
      return None
    learner_claim.claim(self._link, self._learner_id)
    self._weights.publish()
    return True

  def _read_journal(self):
    journal = self._checked(journal_lib.read(self._link))
    # Known before the service is ready. Nobody else would notice until the
    # first weights are sent, after the offline phases.
    self._weights.check_signature()
    return journal

  def _checked(self, journal):
    if journal is not None:
      self._constants.check(self._link.address, journal.constants)
      directory_id.check_run(self._root_dir, int(journal.run_id[0]))
      if int(journal.dataset_id[0]) != self._dataset_id:
        raise ValueError(
            f'The replay service at {self._link.address} must have the dataset '
            'of this learner, but has read another one. Restart the service.'
        )
    return journal

  def _journal_with(self, number):
    journal = self._checked(self._reader.read())
    if journal is None:
      return None
    if not self._weights.are_published():
      logging.info('The replay service was restarted; resending weights.')
      self._send()
    return journal if len(journal.num_steps) > number else None


class PatientExperience:
  """Reads rows of a replay service; waits while it is unavailable."""

  def __init__(self, experience, link: server_link.ServerLink):
    """Wraps a `ReverbExperience`.

    Args:
      experience: Source of the rows.
      link: Link to the service.
    """
    self._experience = experience
    self._link = link

  def iterate(self, train_step: int, num_steps: int, request):
    """Returns an iterator; see `ReverbExperience.iterate`."""

    def iterate():
      if not self._is_filled():
        return None
      try:
        return self._experience.iterate(train_step, num_steps, request)
      except experience_lib.EmptyTableError:
        if self._is_filled():
          raise
        return None  # The service has just restarted.

    return self._link.wait_for('online', iterate)

  def _is_filled(self) -> bool:
    # A restarted service publishes its journal last.
    sizes = self._link.tables()
    return all(sizes[x].current_size for x in ('online', journal_lib.TABLE))
