"""Serves a policy without a network: the actions of similar states.

  python examples/served_policy/server.py maze.hdf5

Needs NumPy, h5py and `parl_tf.serving`. Replace `sample` and `train` with your
policy's, in PyTorch, JAX or anything else.
"""

import sys

import h5py
import numpy as np

from parl_tf.serving import policy_spec
from parl_tf.serving import server

NUM_NEIGHBORS = 16
NOISE = 0.1


class Neighbors:
  """Draws the actions of the nearest recorded states, plus noise."""

  def __init__(self, path: str):
    """Reads the states and actions of a dataset in D4RL's format."""
    with h5py.File(path) as file:
      self.states = file['observations'][:].astype(np.float32)
      self.actions = file['actions'][:].astype(np.float32)
    deviation = self.states.std(axis=0)
    self.scale = np.where(deviation < 1e-6, 1.0, deviation)

  def sample(self, observation, num_samples, seed):
    """Draws actions `[B, N, 1, A]`."""
    random = np.random.default_rng(seed)
    states, query = self.states / self.scale, observation['observation']
    distances = np.sum(states**2, axis=1) - 2 * (query / self.scale) @ states.T
    near = np.argpartition(distances, NUM_NEIGHBORS)[:, :NUM_NEIGHBORS]
    chosen = random.integers(NUM_NEIGHBORS, size=(len(query), num_samples))
    actions = self.actions[np.take_along_axis(near, chosen, axis=1)]
    noisy = actions + NOISE * random.normal(size=actions.shape)
    return np.clip(noisy, -1, 1)[:, :, np.newaxis]

  def train(self, observation, actions, mask, num_steps, seed):
    """Replaces the actions of the recorded states nearest to the given ones."""
    del mask, num_steps, seed
    for state, action in zip(observation['observation'], actions[:, 0]):
      distance = np.sum(((self.states - state) / self.scale) ** 2, axis=1)
      self.actions[np.argmin(distance)] = action
    return [0.0]


def main(path: str, port: int) -> None:
  """Serves the policy of a dataset."""
  policy = Neighbors(path)
  spec = policy_spec.PolicySpec(
      {'observation': policy_spec.ArraySpec(policy.states.shape[1:])},
      action_size=policy.actions.shape[1],
  )
  server.serve(policy.sample, policy.train, spec=spec, port=port)


if __name__ == '__main__':
  main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
