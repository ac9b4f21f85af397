"""Scores and times a frozen policy, alone and steered by a run's critic.

  parl-export --root_dir runs/quickstart --checkpoint behavior_cloning \
      --policy base_policy --output clone
  python -m benchmarks.steering --root_dir runs/quickstart --output steered \
      --base clone

Exports the base with `parl-export --base`: re-ranked, and re-ranked and climbed
with the run's gradient steps. `parl-evaluate` scores each SavedModel, and the
time of a decision of one robot is the median of many. With the threshold at 0,
all actions must be those of the base. The results are printed and written to
`OUTPUT/steering.json`.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any, Dict, Sequence

from absl import app
from absl import flags
import numpy as np
import tensorflow as tf

_ROOT_DIR = flags.DEFINE_string('root_dir', None, 'A run.', required=True)
_BASE = flags.DEFINE_string('base', None, 'A SavedModel.', required=True)
_OUTPUT = flags.DEFINE_string(
    'output', None, 'Directory for SavedModels and results.', required=True
)
_NUM_EPISODES = flags.DEFINE_integer(
    'num_episodes', 100, 'Episodes per evaluation.'
)
_NUM_DECISIONS = flags.DEFINE_integer('num_decisions', 300, 'Timed decisions.')

_EVALUATION_SEED = 12_345
_VARIANTS = {
    'threshold_0': ('--threshold=0',),
    'ranked': ('--gin_bindings=evaluation/Search.local_optimization = False',),
    'climbed': ('--gin_bindings=evaluation/Search.local_optimization = True',),
}


def measure(path: str) -> Dict[str, Any]:
  """Returns the success rate of a SavedModel, and milliseconds a decision."""
  output = _call(
      'evaluate',
      f'--policy={path}',
      f'--gin_file={os.path.abspath(_ROOT_DIR.value)}/config.gin',
      f'--num_episodes={_NUM_EPISODES.value}',
      f'--seed={_EVALUATION_SEED}',
      '--json',
  )
  found = json.loads(output.splitlines()[-1])
  return {
      'success_rate': found['success_rate'],
      'success_interval': found['success_interval'],
      'milliseconds': _latency(path),
  }


def _latency(path: str) -> float:
  model = tf.saved_model.load(path)
  act = model.signatures['serving_default']
  observation = _zeros(act, 1)
  times = []
  for step in range(_NUM_DECISIONS.value):
    start = time.perf_counter()
    act(**observation, seed=tf.constant([0, step]))['action'].numpy()
    times.append(time.perf_counter() - start)
  return 1000.0 * float(np.median(times))


def largest_difference(path: str, other: str, num_states: int = 256) -> float:
  """Returns the largest difference between the actions of two SavedModels."""
  actions = []
  for model in map(tf.saved_model.load, (path, other)):
    act = model.signatures['serving_default']
    observation = {
        name: tf.random.stateless_normal(x.shape, [3, 4])
        for name, x in _zeros(act, num_states).items()
    }
    actions.append(act(**observation, seed=tf.constant([1, 2]))['action'])
  return float(tf.reduce_max(tf.abs(actions[0] - actions[1])))


def _zeros(act, size: int) -> Dict[str, tf.Tensor]:
  _, inputs = act.structured_input_signature
  return {
      name: tf.zeros([size, *x.shape[1:]], x.dtype)
      for name, x in inputs.items()
      if name != 'seed'
  }


def _call(program: str, *arguments: str) -> str:
  return subprocess.run(
      [sys.executable, '-m', f'parl_tf.binaries.{program}', *arguments],
      stdout=subprocess.PIPE,
      text=True,
      check=True,
  ).stdout


def main(argv: Sequence[str]) -> None:
  """Exports, scores and times all variants."""
  del argv
  os.makedirs(_OUTPUT.value, exist_ok=True)
  results = {'base': measure(_BASE.value)}
  for name, arguments in _VARIANTS.items():
    path = os.path.join(_OUTPUT.value, name)
    _call(
        'export', f'--root_dir={_ROOT_DIR.value}', f'--base={_BASE.value}',
        f'--output={path}', *arguments,
    )
    if name == 'threshold_0':
      results[name] = {'difference': largest_difference(path, _BASE.value)}
    else:
      results[name] = measure(path)
  for name, result in results.items():
    print(name, json.dumps(result))
  path = os.path.join(_OUTPUT.value, 'steering.json')
  with open(path, 'w', encoding='utf-8') as file:
    json.dump(results, file, indent=1)


if __name__ == '__main__':
  app.run(main)
