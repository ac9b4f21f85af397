"""Scores an exported policy without TF-Agents and Reverb installed.

  python benchmarks/deployed_evaluation.py --root_dir runs/quickstart \
    --venv /tmp/deployed

Creates a virtual environment with only what `parl-evaluate` needs and scores
the run's SavedModel there. Then plays the same episodes here with the live
policy from the run's checkpoint, and compares initial states, first actions and
successes.
"""

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any, Dict, Sequence

from absl import app
from absl import flags
import numpy as np

from parl_tf.binaries import configs
from parl_tf.binaries import restored_run
from parl_tf.domains import domain as domain_lib
from parl_tf.training import evaluation

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of a finished run.', required=True
)
_VENV = flags.DEFINE_string(
    'venv', None, 'Directory, created if missing.', required=True
)
_NUM_EPISODES = flags.DEFINE_integer('num_episodes', 256, 'Episodes.')
_SEED = flags.DEFINE_integer('evaluation_seed', 12_345, 'Seed of the episodes.')
_POLICY = 'greedy_policy'
_PACKAGES = (
    'tensorflow', 'gin-config', 'dm-env', 'gymnasium-robotics', 'imageio',
    'mujoco==3.1.6',
)
_ABSENT = ('tf_agents', 'reverb', 'tensorflow_probability')
_TOLERANCE = 1e-5
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def make_environment(venv: str) -> str:
  """Creates the minimal environment if missing; returns its Python."""
  python = os.path.join(venv, 'bin', 'python')
  if not os.path.exists(python):
    subprocess.run([sys.executable, '-m', 'venv', venv], check=True)
    install = [python, '-m', 'pip', 'install', '-q']
    constraints = os.path.join(_ROOT, 'constraints.txt')
    subprocess.run([*install, '-c', constraints, *_PACKAGES], check=True)
    subprocess.run([*install, '--no-deps', _ROOT], check=True)
  check = (
      'import importlib.util as u; '
      f'assert not [m for m in {_ABSENT} if u.find_spec(m)]'
  )
  subprocess.run([python, '-c', check], check=True)
  return python


def score_deployed(python: str) -> Dict[str, Any]:
  """Returns the output of `parl-evaluate --json` in that environment."""
  result = subprocess.run(
      [
          os.path.join(os.path.dirname(python), 'parl-evaluate'),
          f'--policy={os.path.join(_ROOT_DIR.value, "policies", _POLICY)}',
          '--gin_file=quickstart.gin',
          f'--num_episodes={_NUM_EPISODES.value}',
          f'--seed={_SEED.value}',
          '--json',
      ],
      check=True,
      stdout=subprocess.PIPE,
      env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL='3', CUDA_VISIBLE_DEVICES=''),
  )
  return json.loads(result.stdout.decode().splitlines()[-1])


def main(argv: Sequence[str]) -> int:
  """Compares both policies."""
  del argv
  assert importlib.util.find_spec('tf_agents')
  deployed = score_deployed(make_environment(_VENV.value))
  configs.add_search_path()
  agent = restored_run.restore_agent(_ROOT_DIR.value)
  live = evaluation.Evaluator(
      domain_lib.select_domain(),
      num_episodes=_NUM_EPISODES.value,
      seed=_SEED.value,
  ).run_policy(agent.named_policies[_POLICY])
  starts = np.array([e.observation[0] for e in live.episodes])
  actions = np.array([e.action[0] for e in live.episodes])
  lengths = [e.num_steps for e in live.episodes]
  start = np.abs(starts - deployed['start_observations']).max()
  action = np.abs(actions - deployed['first_actions']).max()
  same_success = live.successes.tolist() == deployed['successes']
  same_length = lengths == deployed['episode_lengths']
  print(f'success rate: live {live.success_rate:.4f}, deployed '
        f'{np.mean(deployed["successes"]):.4f}')
  print(f'largest difference: initial states {start:.3g}, actions {action:.3g}')
  print(f'same success in each of {len(lengths)} episodes: {same_success}, '
        f'same length: {same_length}')
  is_good = start == 0.0 and action <= _TOLERANCE and same_success
  return 0 if is_good else 1


if __name__ == '__main__':
  app.run(main)
