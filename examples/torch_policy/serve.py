"""Serves a module that `torch.save(policy, 'policy.pt')` has written.

  python serve.py policy.pt --observation observation=4 --action_size 2

The module has two methods. `sample(state)` maps states `[R, S]` to sampled
chunks `[R, T, A]`; it may take a `temperature`, too. `loss(state, actions)`
returns the supervised loss of each action, `[R, T]`. For a policy with other
methods, change `_SAMPLE` and `_LOSS`.

A state has the named parts of an observation, in the order of `--observation`.
Samples come from a moving average of the weights.
"""

import argparse
import hashlib
import inspect
import logging
import os
import pathlib

import numpy as np
import torch
from torch.optim import swa_utils

from parl_tf.serving import policy_spec
from parl_tf.serving import server

_SAMPLE, _LOSS = 'sample', 'loss'  # Methods of the module.
_BATCH_SIZE = 256
_AVERAGING_RATE = 0.005  # Per gradient step.


def read(path, device):
  """Returns a module that has both methods.

  Raises:
    TypeError: If the file has something else.
  """
  # Loads code, too: the module that defines the class must be importable.
  policy = torch.load(path, map_location=device, weights_only=False)
  if not isinstance(policy, torch.nn.Module):
    keys = f' with the keys {list(policy)[:5]}' * isinstance(policy, dict)
    raise TypeError(
        f'{path} must have a module, got {type(policy).__name__}{keys}. If that'
        ' is a state_dict or a checkpoint, make your module in `read`, and load'
        ' the weights into it.'
    )
  for name in (_SAMPLE, _LOSS):
    if not callable(getattr(policy, name, None)):
      raise TypeError(
          f'{type(policy).__name__} in {path} must have the method `{name}`;'
          ' see the first lines of this file.'
      )
  return policy


class ServedModule:
  """Samples, trains, saves and loads a module; see the file."""

  def __init__(self, policy, names, learning_rate, device):
    self._policy = policy.to(device).eval()
    self._averaged = swa_utils.AveragedModel(
        self._policy,
        multi_avg_fn=swa_utils.get_ema_multi_avg_fn(1.0 - _AVERAGING_RATE),
    ).eval()
    self._names, self._learning_rate = names, learning_rate
    self._like = dict(device=device, dtype=next(policy.parameters()).dtype)

  @torch.no_grad()
  def sample(self, observation, num_samples, seed, **temperature):
    """Draws chunks `[B, N, T, A]`."""
    torch.manual_seed(seed)
    # N rows for each state, [B * N, S].
    state = self._state(observation).repeat_interleave(num_samples, dim=0)
    sample = getattr(self._averaged.module, _SAMPLE)
    chunks = sample(state, **temperature)
    return chunks.unflatten(0, (-1, num_samples)).float().cpu().numpy()

  def train(self, observation, actions, mask, num_steps, seed):
    """Takes gradient steps; returns their losses."""
    torch.manual_seed(seed)
    state, losses = self._state(observation), []
    actions = torch.tensor(actions, **self._like)
    # 0 where the episode ended within the chunk.
    mask = torch.tensor(mask, **self._like)
    # A new optimizer, so that a repeated call gives the same weights.
    optimizer = torch.optim.Adam(
        self._policy.parameters(), lr=self._learning_rate
    )
    self._policy.train()
    for _ in range(num_steps):
      rows = torch.randint(len(actions), (_BATCH_SIZE,))
      each = getattr(self._policy, _LOSS)(state[rows], actions[rows])
      if each.shape != mask[rows].shape:
        raise ValueError(
            f'`{_LOSS}` must return the loss of each action, of shape'
            f' {list(mask[rows].shape)}, got {list(each.shape)}.'
        )
      mean = (mask[rows] * each).mean()
      optimizer.zero_grad()
      mean.backward()
      optimizer.step()
      self._averaged.update_parameters(self._policy)
      losses.append(mean.item())
    self._policy.eval()
    return losses

  def save(self, path):
    """Writes both weights to a directory."""
    weights = [self._policy.state_dict(), self._averaged.state_dict()]
    torch.save(weights, os.path.join(path, 'weights.pt'))

  def load(self, path):
    """Reads what `save` has written."""
    weights = torch.load(
        os.path.join(path, 'weights.pt'), self._like['device']
    )
    self._policy.load_state_dict(weights[0])
    self._averaged.load_state_dict(weights[1])

  def _state(self, observation):
    parts = [observation[name] for name in self._names]
    return torch.tensor(np.concatenate(parts, axis=-1), **self._like)


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
  try:
    policy = read(options.policy, options.device)
  except (AttributeError, ImportError, OSError, TypeError) as error:
    parser.error(str(error))
  parameters = inspect.signature(getattr(policy, _SAMPLE)).parameters
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
          has_temperature='temperature' in parameters,
      ),
      save=served.save,
      load=served.load,
      version=hashlib.sha256(file.read_bytes()).hexdigest()[:12],
      directory=options.directory,
      port=options.port,
  )


if __name__ == '__main__':
  main()
