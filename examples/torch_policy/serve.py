"""Serves a module that `torch.save(policy, 'policy.pt')` has written.

  python serve.py policy.pt --observation observation=4 --action_size 2

The module has two methods. `sample(state)` maps states `[R, S]` to sampled
chunks `[R, T, A]`; it may take a `temperature`, too. `loss(state, actions)`
returns the supervised loss of each action, `[R, T]`. For a policy with other
methods, change the two lines that call these.

A state has the named parts of an observation, in the order of `--observation`.
Samples come from a moving average of the weights.
"""

import argparse
import hashlib
import inspect
import logging
import os
import pathlib

import torch
from torch.optim import swa_utils

from parl_tf.serving import policy_spec
from parl_tf.serving import server

_BATCH_SIZE = 256
_AVERAGING_RATE = 0.005  # Per gradient step.


class ServedModule:
  """Samples, trains, saves and loads a module; see the file."""

  def __init__(self, policy, names, learning_rate, device):
    self._policy = policy.to(device).eval()
    self._averaged = swa_utils.AveragedModel(
        self._policy,
        multi_avg_fn=swa_utils.get_ema_multi_avg_fn(1.0 - _AVERAGING_RATE),
    ).eval()
    self._names, self._device = names, device
    self._learning_rate = learning_rate

  @torch.no_grad()
  def sample(self, observation, num_samples, seed, **temperature):
    """Draws chunks `[B, N, T, A]`."""
    torch.manual_seed(seed)
    # N rows for each state, [B * N, S].
    state = self._state(observation).repeat_interleave(num_samples, dim=0)
    chunks = self._averaged.module.sample(state, **temperature)
    return chunks.unflatten(0, (-1, num_samples)).cpu().numpy()

  def train(self, observation, actions, mask, num_steps, seed):
    """Takes gradient steps; returns their losses."""
    torch.manual_seed(seed)
    state, losses = self._state(observation), []
    actions = torch.tensor(actions, device=self._device)
    # 0 where the episode ended within the chunk.
    mask = torch.tensor(mask, device=self._device)
    # A new optimizer, so that a repeated call gives the same weights.
    optimizer = torch.optim.Adam(
        self._policy.parameters(), lr=self._learning_rate
    )
    self._policy.train()
    for _ in range(num_steps):
      rows = torch.randint(len(actions), (_BATCH_SIZE,))
      loss = (mask[rows] * self._policy.loss(state[rows], actions[rows])).mean()
      optimizer.zero_grad()
      loss.backward()
      optimizer.step()
      self._averaged.update_parameters(self._policy)
      losses.append(loss.item())
    self._policy.eval()
    return losses

  def save(self, path):
    """Writes both weights to a directory."""
    weights = [self._policy.state_dict(), self._averaged.state_dict()]
    torch.save(weights, os.path.join(path, 'weights.pt'))

  def load(self, path):
    """Reads what `save` has written."""
    weights = torch.load(os.path.join(path, 'weights.pt'), self._device)
    self._policy.load_state_dict(weights[0])
    self._averaged.load_state_dict(weights[1])

  def _state(self, observation):
    parts = [torch.tensor(observation[name]) for name in self._names]
    return torch.cat(parts, dim=-1).to(self._device)


def _named_size(text):
  name, _, size = text.partition('=')
  return name, int(size)


def main() -> None:
  """Serves the policy until Ctrl-C."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('policy', help='file of the module')
  parser.add_argument(
      '--observation', type=_named_size, action='append', required=True,
      metavar='NAME=SIZE', help='part of the state; repeat it for several',
  )
  parser.add_argument('--action_size', type=int, required=True)
  parser.add_argument('--chunk_length', type=int, default=1)
  parser.add_argument('--directory', help='where to save trained versions')
  parser.add_argument('--port', type=int, default=8000)
  parser.add_argument('--learning_rate', type=float, default=1e-4)
  parser.add_argument('--device', default='cpu')
  options = parser.parse_args()
  logging.basicConfig(level=logging.INFO)
  # Loads code, too: the module that defines the class must be importable.
  policy = torch.load(
      options.policy, map_location=options.device, weights_only=False
  )
  sizes = dict(options.observation)
  served = ServedModule(policy, sizes, options.learning_rate, options.device)
  file = pathlib.Path(options.policy)
  server.serve(
      served.sample,
      served.train,
      spec=policy_spec.PolicySpec(
          {x: policy_spec.ArraySpec((size,)) for x, size in sizes.items()},
          action_size=options.action_size,
          chunk_length=options.chunk_length,
          has_temperature=(
              'temperature' in inspect.signature(policy.sample).parameters
          ),
      ),
      save=served.save,
      load=served.load,
      version=hashlib.sha256(file.read_bytes()).hexdigest()[:12],
      directory=options.directory,
      port=options.port,
  )


if __name__ == '__main__':
  main()
