"""Clones the actions of a dataset in D4RL's format.

  python train.py maze.hdf5 base
"""

import argparse
import logging

import flow_policy
import h5py
import numpy as np


def main() -> None:
  """Trains a policy and writes its weights."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('dataset')
  parser.add_argument('output')
  parser.add_argument('--steps', type=int, default=3_000)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  logging.basicConfig(level=logging.INFO)
  with h5py.File(options.dataset) as file:
    states = file['observations'][:].astype(np.float32)
    actions = file['actions'][:].astype(np.float32)
  policy = flow_policy.FlowPolicy(states, actions, options.seed)
  losses = policy.train(
      {'observation': states},
      actions[:, np.newaxis],
      np.ones([len(actions), 1]),
      options.steps,
      options.seed,
  )
  policy.save(options.output)
  logging.info(
      'Loss %.3f, then %.3f.', np.mean(losses[:100]), np.mean(losses[-100:])
  )


if __name__ == '__main__':
  main()
