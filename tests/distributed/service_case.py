"""Test case for the replay service, with services, spools and journals."""

import os
import threading
import time

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.distributed import journal
from parl_tf.distributed import spool
from tests.distributed import small_service

OBSERVATION = {
    'image': tf.TensorSpec([2, 2, 3], tf.uint8),
    'state': tf.TensorSpec([2], tf.float32),
}
ACTION = tf.TensorSpec([1], tf.float32)


def episode(num_steps=3, success=False, **changes):
  """Returns an episode of the specs above with some fields replaced."""
  return types.Episode(
      observation={
          'image': np.zeros([num_steps + 1, 2, 2, 3], np.uint8),
          'state': np.ones([num_steps + 1, 2], np.float32),
      },
      action=np.zeros([num_steps, 1], np.float32),
      reward=np.zeros(num_steps, np.float32),
      discount=np.ones(num_steps, np.float32),
      success=np.full(num_steps, success),
  )._replace(**changes)


class ServiceCase(absltest.TestCase):
  """Starts services of one log and stops them after the test."""

  def setUp(self):
    super().setUp()
    self.root = self.create_tempdir().full_path
    self.variables = [tf.Variable([1.0, 2.0])]
    self._services = []
    self.addCleanup(self.stop)

  def start(
      self, port=None, offline_episodes=None, num_transitions=3, num_copies=0
  ):
    """Returns a running service of a dataset with `num_transitions`."""
    replay = small_service.make(
        OBSERVATION, ACTION, self.variables, self.root, num_transitions,
        port, num_copies,
    )
    if offline_episodes is None:
      offline_episodes = [episode()]
    thread = threading.Thread(target=replay.run, args=(offline_episodes,))
    thread.start()
    self._services.append((replay, thread))
    return replay

  def stop(self):
    """Stops all services."""
    for replay, thread in self._services:
      replay.stop()
      thread.join()
    self._services = []

  def logged(self):
    """Returns the files of the log."""
    names = os.listdir(os.path.join(self.root, 'episodes'))
    return [name for name in names if name.endswith('.npz')]

  def spool(self, link, collector=0):
    """Returns the spool of a collector, in the same directory every time."""
    directory = os.path.join(self.root, f'spool_{collector}')
    return spool.Spool(directory, link, collector)

  def sample(self, link, table):
    """Returns one item of a table."""
    return list(link.client.sample(table, num_samples=1))

  def read(self, link, num_episodes=0, num_refused=0):
    """Returns the journal once it lists this many episodes."""
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
      seen = journal.read(link)
      if seen is not None and (
          len(seen.episode_id) >= num_episodes
          and len(seen.refused) >= num_refused
      ):
        return seen
      time.sleep(0.02)
    raise AssertionError(f'The journal must list more episodes, got {seen}.')
