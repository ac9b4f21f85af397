"""A NumPy policy with Gaussian samples, and servers in this process."""

import contextlib
import os
import threading

import numpy as np

from parl_tf.serving import client as client_lib
from parl_tf.serving import policy_spec
from parl_tf.serving import server as server_lib

SPEC = policy_spec.PolicySpec(
    {'state': policy_spec.ArraySpec((3,))},
    action_size=2,
    chunk_length=4,
    action_low=np.full(2, -2.0, np.float32),
    action_high=np.full(2, 2.0, np.float32),
    max_batch=8,
    has_temperature=True,
    normalization={'mean': np.zeros(3, np.float32)},
)


class ToyPolicy:
  """Actions are the state's first two entries, an offset, and noise.

  Attributes:
    offset: `[4, 2]`, the weights.
    num_trainings: Calls of `train`.
  """

  def __init__(self):
    self.offset = np.zeros([4, 2], np.float32)
    self.num_trainings = 0

  def sample(self, observation, num_samples, seed, temperature=1.0):
    state = observation['state']
    noise = np.random.default_rng(seed).normal(
        size=(len(state), num_samples, 4, 2)
    )
    mean = state[:, np.newaxis, np.newaxis, :2] + self.offset
    return mean + 0.1 * temperature * noise

  def train(self, observation, actions, mask, num_steps, seed):
    del seed
    self.num_trainings += 1
    losses = []
    for _ in range(num_steps):
      error = actions - observation['state'][:, np.newaxis, :2] - self.offset
      losses.append(np.mean(mask[..., np.newaxis] * error**2))
      self.offset += 0.5 * np.mean(mask[..., np.newaxis] * error, axis=0)
    return {'loss': losses}

  def save(self, directory):
    np.save(os.path.join(directory, 'offset.npy'), self.offset)

  def load(self, directory):
    self.offset = np.load(os.path.join(directory, 'offset.npy'))

  def functions(self):
    return server_lib.Policy(self.sample, self.train, self.save, self.load)


@contextlib.contextmanager
def serving(policy, spec=SPEC, **options):
  """Runs a server in a thread; yields it.

  Args:
    policy: `server.Policy`.
    spec: Its spec.
    **options: Of `PolicyServer`.
  """
  server = server_lib.PolicyServer(policy, spec, port=0, **options)
  thread = threading.Thread(target=server.run)
  thread.start()
  try:
    yield server
  finally:
    server.close()
    thread.join()


def connect(server, **options):
  return client_lib.PolicyClient(
      server.address, patience_seconds=5.0, **options
  )


def observation(size, seed=0):
  state = np.random.default_rng(seed).normal(size=(size, 3))
  return {'state': state.astype(np.float32)}
