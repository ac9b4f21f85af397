"""Compares a step of our Adam with one of Keras' Adam.

  python -m benchmarks.optimizer_step --rounds 21

Both update equal copies of a part's variables with the same gradients, in one
process, in turn. The table has medians over the rounds.
"""

import time
from typing import Dict, List, Sequence, Tuple

from absl import app
from absl import flags
import numpy as np
import tensorflow as tf

from benchmarks import hot_path_rows
from benchmarks import hot_path_settings
from parl_tf.training import adam

_ROUNDS = flags.DEFINE_integer('rounds', 21, 'Timings of each optimizer.')

_CALLS = 20  # Steps per timing.
_OPTIMIZERS = {'Keras': tf.keras.optimizers.Adam, 'ours': adam.Adam}


def make_step(optimizer, variables: Sequence[tf.Variable]):
  """Returns a step on copies of the variables, and its number of operations."""
  copies = [tf.Variable(x) for x in variables]
  random = np.random.default_rng(0)
  gradients = [
      tf.constant(random.normal(size=x.shape), tf.float32) for x in copies
  ]
  optimizer.build(copies)

  @tf.function(autograph=False)
  def step():
    optimizer.apply_gradients(zip(gradients, copies))

  graph = step.get_concrete_function().graph
  return step, len(graph.get_operations())


def time_steps(steps: Dict[str, Tuple]) -> Dict[str, List[float]]:
  """Returns milliseconds per step of each round, by the optimizer's name."""
  times = {name: [] for name in steps}
  for _ in range(_ROUNDS.value):
    for name, (step, _) in steps.items():
      start = time.perf_counter()
      for _ in range(_CALLS):
        step()
      times[name].append(1e3 * (time.perf_counter() - start) / _CALLS)
  return times


def _parts(setting) -> Dict[str, Sequence[tf.Variable]]:
  """Returns the variables of the critic and of the policy."""
  agent = hot_path_rows.HotPath(setting).agent
  return {
      'critic': agent.critic.trainable_variables,
      'policy': agent.generative_policy.trainable_variables,
  }


def main(_):
  """Prints the table."""
  print('| setting | part | variables | weights | operations, Keras | ours '
        '| step, ms, Keras | ours | Keras / ours |')
  print('|---' * 9 + '|')
  for name in ('pointmaze', 'antmaze'):
    for part, variables in _parts(hot_path_settings.SETTINGS[name]).items():
      steps = {
          kind: make_step(optimizer(3e-4), variables)
          for kind, optimizer in _OPTIMIZERS.items()
      }
      medians = {k: np.median(v) for k, v in time_steps(steps).items()}
      cells = [
          name,
          part,
          len(variables),
          sum(int(np.prod(x.shape)) for x in variables),
          steps['Keras'][1],
          steps['ours'][1],
          f'{medians["Keras"]:.3g}',
          f'{medians["ours"]:.3g}',
          f'{medians["Keras"] / medians["ours"]:.2f}',
      ]
      print('| ' + ' | '.join(map(str, cells)) + ' |')


if __name__ == '__main__':
  hot_path_settings.use_two_threads()
  app.run(main)
