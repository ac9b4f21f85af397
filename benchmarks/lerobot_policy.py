"""Improves a diffusion policy of LeRobot on a task, where it lives.

  python -m benchmarks.lerobot_policy --root_dir runs/lerobot \
      --lerobot_python lerobot_venv/bin/python --seeds 0,1,2

`examples/lerobot_policy` describes the environment of LeRobot, and
`served_policies` what is measured. The base is LeRobot's training program on
a recorded dataset.
"""

import os
import pathlib
import time
from typing import List, Sequence

from absl import app
from absl import flags
import numpy as np

from benchmarks import served_policies
from parl_tf.datasets import reading
from parl_tf.serving import client as client_lib

_PYTHON = flags.DEFINE_string(
    'lerobot_python', None, "LeRobot's Python interpreter.", required=True
)
_NUM_BASE_STEPS = flags.DEFINE_integer(
    'num_base_steps', 1_500, "Steps of LeRobot's training program."
)

_EXAMPLE = pathlib.Path(__file__).parents[1] / 'examples' / 'lerobot_policy'
_POLICY = (
    '--policy.type=diffusion',
    '--policy.n_obs_steps=1',
    '--policy.horizon=2',
    '--policy.n_action_steps=1',
    '--policy.drop_n_last_frames=0',
    '--policy.down_dims=[64]',
    '--policy.kernel_size=3',
    '--policy.diffusion_step_embed_dim=32',
    '--policy.num_train_timesteps=50',
    '--policy.num_inference_steps=5',
    '--policy.noise_scheduler_type=DDIM',
    # With epsilon, a fit of 600 steps misses sharp changes between states.
    '--policy.prediction_type=sample',
    # Without ENV, the policy learns nothing of the state.
    '--policy.normalization_mapping='
    '{"STATE":"MIN_MAX","ENV":"MIN_MAX","ACTION":"MIN_MAX"}',
    '--policy.optimizer_lr=1e-3',
    '--policy.scheduler_warmup_steps=100',
    '--policy.push_to_hub=false',
    '--policy.device=cpu',
    '--batch_size=64',
    # A process reads a row in 3 ms.
    '--num_workers=2',
)


class LerobotSeed(served_policies.Seed):
  """The steps of one seed; see `served_policies`."""

  def train_base(self) -> None:
    """Trains the base by LeRobot's program, or resumes it."""
    if not os.path.exists(self.path('dataset')):
      self.call(
          'data', 'convert', self.path('data.hdf5'), '--format=lerobot',
          f'--output={self.path("dataset")}', '--instruction=reach the goal',
      )
    output = self.path('base')
    arguments = [
        '--dataset.repo_id=local/data',
        f'--dataset.root={self.path("dataset")}',
        f'--output_dir={output}',
        f'--steps={_NUM_BASE_STEPS.value}',
        '--save_freq=500',
        f'--seed={self.seed}',
        *_POLICY,
    ]
    if os.path.exists(self._checkpoint):
      config = os.path.join(self._checkpoint, 'train_config.json')
      arguments = ['--resume=true', f'--config_path={config}']
    elif os.path.exists(output):
      os.rename(output, f'{output}.{time.time():.0f}')
    self.run_command(
        'base', [_PYTHON.value, str(_EXAMPLE / 'train.py'), *arguments]
    )

  def serve(self) -> List[str]:
    return [_PYTHON.value, str(_EXAMPLE / 'server.py'), self._checkpoint]

  def check_reloaded(self, version: str, versions: str) -> float:
    """Returns the largest difference to what LeRobot draws by itself."""
    episodes = reading.read_episodes(self.path('data.hdf5'))
    states = np.concatenate([x.observation[:-1] for x in episodes])
    states = np.random.default_rng(0).choice(states, 32, replace=False)
    np.save(self.path('states.npy'), states[np.newaxis])
    with client_lib.PolicyClient(self.address) as client:
      served = client.sample({'observation': states}, 1, seed=7).actions
    self.run_command('plain', [
        _PYTHON.value,
        str(_EXAMPLE / 'plain_lerobot.py'),
        os.path.join(versions, version),
        self.path('states.npy'),
        self.path('actions.npy'),
        '7',
    ])
    plain = np.load(self.path('actions.npy'))
    return float(np.max(np.abs(plain - served[:, 0])))

  @property
  def _checkpoint(self) -> str:
    return self.path('base/checkpoints/last/pretrained_model')


def main(argv: Sequence[str]) -> None:
  """Runs everything that is missing, then writes `results.json`."""
  del argv
  served_policies.run(LerobotSeed)


if __name__ == '__main__':
  app.run(main)
