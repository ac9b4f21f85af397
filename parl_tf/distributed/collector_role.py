"""The role of a collector: it acts episodes with the learner's weights."""

import os
import time
from typing import Optional

from absl import logging
import gin

from parl_tf.distributed import journal as journal_lib
from parl_tf.distributed import server_link
from parl_tf.distributed import spool
from parl_tf.distributed import weights as weights_lib
from parl_tf.domains import domain as domain_lib
from parl_tf.training import episode_actor
from parl_tf.training import experiment
from parl_tf.training import run_constants
from parl_tf.training import run_directory

# Of who waits for the learner; a look takes some milliseconds of both sides.
_POLL_SECONDS = 0.2
# More than that on the way, and the service takes in too slowly.
_MAX_ON_THE_WAY = 4
_REPORT_SECONDS = 30
# In a row; then it is no accident.
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
  """Acts episodes and brings them to a replay service, until training is over.

  An episode counts once it stands in the collector's spool, synced; after a
  crash the spool is sent anew.

  Args:
    root_dir: Where the spool stands, in `spool/<collector>`.
    seed: Non-negative integer seed of the run.
    collector: Number of this collector; no other of the run has it.
    address: `host:port` of the service.
    max_episodes_ahead: Episodes that may be in the tables, or on the way there,
      that the learner has not trained on yet; then the collector waits. None
      for any number.

  Returns:
    The number of episodes acted.

  Raises:
    ValueError: If an argument is out of range, the service has another
      configuration, another process is this collector, or ten episodes in a row
      are not what they must be.
  """
  if max_episodes_ahead is not None and max_episodes_ahead < 1:
    raise ValueError(
        f'`max_episodes_ahead` must be positive, got {max_episodes_ahead}.'
    )
  directory = os.path.join(root_dir, 'spool', str(collector))
  # Two of one number would give their episodes the same ids.
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
  # The statistics of observations come with the weights.
  agent = experiment.make_agent(domain, None, seed)
  weights = weights_lib.Weights(
      link, agent.acting_variables, agent.train_step_counter
  )
  constants = run_constants.read(domain, agent)
  actor = episode_actor.EpisodeActor(domain, agent, seed, collector)
  num_acted, num_dropped, first_number = 0, 0, 0
  link.wait_for(weights_lib.TABLE, weights.receive)
  while not weights.is_over:
    journal, num_on_the_way = link.wait_for(
        journal_lib.TABLE, lambda: _exchange(link, own, weights, constants)
    )
    num_ahead = len(journal.num_steps) + num_on_the_way
    num_ahead -= int(weights.num_episodes)
    if num_on_the_way >= _MAX_ON_THE_WAY or (
        max_episodes_ahead is not None and num_ahead >= max_episodes_ahead
    ):
      logging.log_every_n_seconds(
          logging.INFO,
          'Collector %d waits: %d episodes are ahead of the learner, %d of its '
          'own on their way to the service.',
          _REPORT_SECONDS,
          collector,
          num_ahead,
          num_on_the_way,
      )
      time.sleep(_POLL_SECONDS)
      continue
    # Not that of an episode which was dropped: its seeds would act it again.
    number = max(own.next_number(journal), first_number)
    episode = actor.act(number)
    first_number = number + 1
    try:
      own.append(number, episode)
    except ValueError as error:
      num_dropped += 1
      if num_dropped == _MAX_DROPPED:
        raise
      logging.error('Collector %d drops an episode: %s', collector, error)
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
  logging.info('Collector %d: training is over.', collector)
  link.wait_for(journal_lib.TABLE, lambda: _brought_all(link, own))
  return num_acted


def _brought_all(link, own):
  """Brings what has not arrived; None until there is no more of it."""
  journal = journal_lib.read(link)
  return None if journal is None or own.deliver(journal) else True


def _exchange(link, own, weights, constants):
  """Takes the newest weights, and brings what has not arrived.

  Returns:
    The journal, and how many episodes are on the way; None where the service is
    not ready.
  """
  weights.receive()  # None after a restart: the old ones serve until then.
  journal = journal_lib.read(link)
  if journal is None:
    return None
  constants.check(link.address, journal.constants)
  return journal, own.deliver(journal)
