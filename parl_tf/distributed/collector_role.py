"""The collector role: collects episodes with the learner's weights."""

import os
import time
from typing import Optional

from absl import logging
import gin

from parl_tf.distributed import journal as journal_lib
from parl_tf.distributed import server_link
from parl_tf.distributed import spool
from parl_tf.distributed import weights as weights_lib
from parl_tf.domains import arguments
from parl_tf.domains import domain as domain_lib
from parl_tf.training import episode_actor
from parl_tf.training import experiment
from parl_tf.training import run_constants
from parl_tf.training import run_directory

# Polling interval of a waiting collector. A poll costs both sides some
# milliseconds.
_POLL_SECONDS = 0.2
# At this number of unacknowledged episodes, the collector waits.
_MAX_UNACKNOWLEDGED = 4
_REPORT_SECONDS = 30
# Consecutive invalid episodes after which the collector stops.
_MAX_DROPPED = 10


@gin.configurable(denylist=['root_dir', 'seed', 'collector', 'address'])
def collect(
    root_dir: str,
    seed: int,
    collector: int,
    address: str,
    *,
    max_episodes_ahead: Optional[int] = 8,
) -> int:
  """Collects episodes and sends them to a replay service until training ends.

  An episode is safe once it is synced to the collector's spool. After a crash
  the collector sends the spool again.

  Args:
    root_dir: Directory with the spool, `spool/<collector>`.
    seed: Non-negative integer seed of the run.
    collector: Number of this collector, unique in the run.
    address: `host:port` of the service.
    max_episodes_ahead: The collector waits while the learner has not yet
      trained on this many of the collected episodes. None never waits.

  Returns:
    The number of collected episodes.

  Raises:
    ValueError: If an argument is out of range, the service has another
      configuration, another process has the same collector number, or ten
      consecutive episodes are invalid.
  """
  if max_episodes_ahead is not None and max_episodes_ahead < 1:
    raise ValueError(
        f'`max_episodes_ahead` must be positive, got {max_episodes_ahead}.'
    )
  directory = os.path.join(root_dir, 'spool', str(collector))
  # Two collectors with the same number would assign the same episode ids.
  with run_directory.hold(directory):
    link = server_link.ServerLink(address)
    return _collect(
        spool.Spool(directory, link, collector),
        link,
        seed,
        collector,
        max_episodes_ahead,
    )


def _collect(own, link, seed, collector, max_episodes_ahead):
  domain = domain_lib.select_domain()
  # The observation statistics arrive with the weights.
  agent = experiment.make_agent(domain, None, seed)
  weights = weights_lib.Weights(
      link, agent.acting_variables, agent.train_step_counter
  )
  constants = run_constants.read(domain, agent)
  actor = episode_actor.EpisodeActor(domain, agent, seed, collector)
  reader = journal_lib.Reader(link)
  num_acted, num_dropped, first_number = 0, 0, 0
  link.wait_for(weights_lib.TABLE, weights.receive)
  if weights.is_over:
    logging.warning(
        'Collector %d: training had ended before this collector started. To '
        'extend the run, start the learner first.',
        collector,
    )
  while not weights.is_over:
    journal, num_unacknowledged = link.wait_for(
        journal_lib.TABLE,
        lambda: _exchange(link, reader, own, weights, constants),
    )
    if weights.is_over:  # A robot should not move again.
      break
    num_ahead = len(journal.num_steps) + num_unacknowledged
    num_ahead -= int(weights.num_episodes)
    if num_unacknowledged >= _MAX_UNACKNOWLEDGED or (
        max_episodes_ahead is not None and num_ahead >= max_episodes_ahead
    ):
      logging.log_every_n_seconds(
          logging.INFO,
          'Collector %d waits: the learner is %d episodes behind, and the '
          'service has not acknowledged %d episodes of this collector.',
          _REPORT_SECONDS,
          collector,
          num_ahead,
          num_unacknowledged,
      )
      time.sleep(_POLL_SECONDS)
      continue
    # Skips the numbers of dropped episodes, because their seeds would produce
    # the same episodes again.
    number = max(own.next_number(journal), first_number)
    first_number = number + 1
    try:
      episode = actor.act(number)
    except arguments.NotFiniteError as error:
      num_dropped = _drop(num_dropped, collector, error)
      continue
    try:
      own.append(number, episode)
    except ValueError as error:
      num_dropped = _drop(num_dropped, collector, error)
      continue
    num_dropped = 0
    num_acted += 1
    logging.info(
        'Collector %d, episode %d: %d steps%s, weights of training step %d.',
        collector,
        number,
        episode.num_steps,
        ', success' if domain.is_success(episode) else '',
        episode.policy_version,
    )
  logging.info('Collector %d: training has ended.', collector)
  link.wait_for(journal_lib.TABLE, lambda: _delivered_all(reader, own))
  return num_acted


def _delivered_all(reader, own):
  """Delivers the remaining episodes; returns None until all have arrived."""
  journal = reader.read()
  return None if journal is None or own.deliver(journal) else True


def _drop(num_dropped: int, collector: int, error: ValueError) -> int:
  """Counts an episode dropped in succession; raises if there are too many."""
  num_dropped += 1
  if num_dropped == _MAX_DROPPED:
    raise error
  logging.error('Collector %d drops an episode: %s', collector, error)
  return num_dropped


def _exchange(link, reader, own, weights, constants):
  """Receives the newest weights and delivers episodes.

  Returns:
    The journal and the number of unacknowledged episodes; None if the service
    is not ready.
  """
  weights.receive()  # Keeps the old weights if a restarted service has none.
  journal = reader.read()
  if journal is None:
    return None
  constants.check(link.address, journal.constants)
  return journal, own.deliver(journal)
