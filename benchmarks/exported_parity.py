"""Compares a run's exported policies with the live ones on recorded states.

  python -m benchmarks.exported_parity --root_dir runs/drawn_maze

For each exported policy of a finished run, a process with TensorFlow alone
loads the SavedModel and acts on observations of the run's dataset, drawn at
random, with stacked frames. Prints the largest difference from the actions of
the live policy, restored from the last checkpoint, in raw units, and the time
of a decision for one robot: median, and 99th percentile.
"""

import json
import os
import subprocess
import sys
import tempfile

from absl import app
from absl import flags
import numpy as np
import tensorflow as tf

from parl_tf import frame_stack
from parl_tf.binaries import restored_run
from parl_tf.domains import domain as domain_lib
from parl_tf.training import experiment
from parl_tf.training import run_dataset

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of a finished run.', required=True
)
_NUM_STATES = flags.DEFINE_integer(
    'num_states', 256, 'Recorded observations.', lower_bound=100
)
_SEED = (5, 6)
_ARRAY = 'observation'  # Input name of an observation that is one array.

# A program, so that nothing but TensorFlow is imported.
_ACT = """
import json, sys, time
import numpy as np
import tensorflow as tf
directory, states, output = sys.argv[1:]
act = tf.saved_model.load(directory).signatures['serving_default']
states = dict(np.load(states))
seed = tf.constant(states.pop('seed'))
result = act(seed=seed, **{k: tf.constant(x) for k, x in states.items()})
actions = result.get('chunk', result['action']).numpy()
seconds = []
for i in range(len(actions)):
  state = {k: tf.constant(x[i : i + 1]) for k, x in states.items()}
  start = time.perf_counter()
  act(seed=seed, **state)['action'].numpy()
  seconds.append(time.perf_counter() - start)
loaded = [x for x in ('parl_tf', 'tf_agents', 'reverb') if x in sys.modules]
np.savez(output, actions=actions, seconds=seconds[10:], loaded=loaded)
"""


def draw_states(episodes, num_states, num_frames):
  """Returns a flat dict of recorded observations `[num_states, ...]`."""
  random = np.random.default_rng(0)
  rows = []
  for i in random.integers(len(episodes), size=num_states):
    index = random.integers(episodes[i].num_steps)
    rows.append(
        frame_stack.read_episode(
            episodes[i].observation, np.array(index), num_frames
        )
    )
  states = tf.nest.map_structure(lambda *leaves: np.stack(leaves), *rows)
  return states if isinstance(states, dict) else {_ARRAY: states}


def compare(agent, name, directory, states, bounds):
  """Returns the largest difference and the seconds of single decisions."""
  observation = states if _ARRAY not in states else states[_ARRAY]
  live = agent.named_policies[name].act(
      tf.nest.map_structure(tf.constant, observation), tf.constant(_SEED)
  ).numpy()
  low, high = bounds
  live = live.reshape([len(live), -1, len(low)])
  live = low + (live + 1.0) / 2.0 * (high - low)
  with tempfile.TemporaryDirectory() as folder:
    given, taken = (os.path.join(folder, x) for x in ('in.npz', 'out.npz'))
    np.savez(given, seed=np.array(_SEED, np.int32), **states)
    subprocess.run(
        [sys.executable, '-c', _ACT, directory, given, taken],
        check=True,
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL='3'),
        cwd=folder,  # Where `parl_tf` is not the checkout.
    )
    with np.load(taken) as file:
      found = dict(file)
  if found['loaded'].size:
    raise RuntimeError(f'The process loaded {found["loaded"].tolist()}.')
  return np.abs(found['actions'].reshape(live.shape) - live).max(), found[
      'seconds'
  ]


def main(argv):
  """Prints a row per policy."""
  del argv
  root_dir = os.path.normpath(_ROOT_DIR.value)
  agent = restored_run.restore_agent(root_dir)
  domain = domain_lib.select_domain()
  episodes = run_dataset.load(experiment.dataset_path(root_dir), domain)
  states = draw_states(episodes, _NUM_STATES.value, agent.num_frames)
  print('| policy | states | largest difference | median, ms | 99 %, ms |')
  print('|---|---|---|---|---|')
  with open(os.path.join(root_dir, 'summary.json'), encoding='utf-8') as file:
    policies = json.load(file)['policies']
  for name, directory in policies.items():
    difference, seconds = compare(
        agent,
        name,
        os.path.abspath(directory),
        states,
        domain.raw_action_bounds,
    )
    median, tail = 1e3 * np.quantile(seconds, [0.5, 0.99])
    print(
        f'| `{name}` | {_NUM_STATES.value} | {difference:.2g} | {median:.2f} | '
        f'{tail:.2f} |'
    )


if __name__ == '__main__':
  app.run(main)
