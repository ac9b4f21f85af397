"""Draws actions of a checkpoint with LeRobot alone, without parl_tf.

  python plain_lerobot.py CHECKPOINT STATES.npy ACTIONS.npy SEED

Reads the states `[F, B, ...]` of B episodes, and writes the chunk of actions
`[B, T, A]` that LeRobot's `select_action` takes in the last of them. Before it
are whole chunks: F - 1 is a multiple of T. An .npz file has the states by the
names of LeRobot, with images `[height, width, 3]` uint8 and texts.
"""

import sys

import numpy as np
import torch
import torchvision_operators

torchvision_operators.import_torchvision()

from lerobot.configs import policies as policy_configs  # noqa: E402
from lerobot.policies import factory  # noqa: E402


def _read(config, path: str):
  """Returns an observation of all episodes for each frame."""
  states = np.load(path)
  if isinstance(states, np.ndarray):
    return [
        dict.fromkeys(config.input_features, state)
        for state in torch.from_numpy(states)
    ]
  names = list(states)
  return [
      {name: _converted(x) for name, x in zip(names, frame)}
      for frame in zip(*(states[name] for name in names))
  ]


def _converted(array: np.ndarray):
  """Returns an array `[B, ...]` as LeRobot's datasets give it."""
  if array.dtype.kind == 'U':
    return list(map(str, array))
  tensor = torch.from_numpy(array)
  if array.dtype == np.uint8:
    tensor = tensor.movedim(-1, -3).float() / 255.0
  return tensor


def main(checkpoint: str, states: str, output: str, seed: int) -> None:
  """Loads the checkpoint and draws the actions."""
  config = policy_configs.PreTrainedConfig.from_pretrained(checkpoint)
  policy = factory.get_policy_class(config.type).from_pretrained(checkpoint)
  preprocess, postprocess = factory.make_pre_post_processors(
      config, pretrained_path=checkpoint
  )
  batches = [preprocess(x) for x in _read(config, states)]
  for batch in batches[:-1]:
    policy.select_action(batch)
  torch.manual_seed(seed)
  actions = [
      postprocess(policy.select_action(batches[-1]))
      for _ in range(config.n_action_steps)
  ]
  np.save(output, torch.stack(actions, dim=1).numpy())


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
