"""Clones the actions of a dataset in D4RL's format.

  python train.py maze.hdf5 policy.pt
"""

import argparse
import logging

import h5py
import mixture_policy
import numpy as np
import torch
from torch.optim import swa_utils

_BATCH_SIZE = 256


def main() -> None:
  """Trains a policy, and saves its module with averaged weights."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('dataset')
  parser.add_argument('output')
  parser.add_argument('--steps', type=int, default=3_000)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  logging.basicConfig(level=logging.INFO)
  with h5py.File(options.dataset) as file:
    states = torch.tensor(file['observations'][:].astype(np.float32))
    actions = torch.tensor(file['actions'][:].astype(np.float32))
  torch.manual_seed(options.seed)
  policy = mixture_policy.MixturePolicy(states, actions.shape[1])
  averaged = swa_utils.AveragedModel(
      policy, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.995)
  )
  optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
  losses = []
  for _ in range(options.steps):
    rows = torch.randint(len(actions), (_BATCH_SIZE,))
    loss = policy.loss(states[rows], actions[rows, None]).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    averaged.update_parameters(policy)
    losses.append(loss.item())
  torch.save(averaged.module, options.output)
  logging.info(
      'Loss %.3f, then %.3f.', np.mean(losses[:100]), np.mean(losses[-100:])
  )


if __name__ == '__main__':
  main()
