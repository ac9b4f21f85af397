"""Measures what drawing the halves of a state's samples in parallel saves.

  python -m benchmarks.halved_samples

Prints, for a policy that acts at 1, 8 and 50 states, the time of its samples
drawn as a whole and in two halves, which alternate.
"""

import time

from absl import app
from absl import flags
import numpy as np
import tensorflow as tf

from benchmarks import hot_path_rows
from benchmarks import hot_path_settings
from parl_tf.search import compiled_sampling

_SETTINGS = flags.DEFINE_list(
    'settings', ['small_robot', 'antmaze'], 'Settings to measure.'
)
_TURNS = flags.DEFINE_integer('turns', 50, 'Turns of each row.')

_WARM_UP = 5


def make_sample(setting: hot_path_settings.Setting, agent, *, in_parts: bool):
  """Returns a graph that draws for any number of states, and N."""
  num_samples = hot_path_settings.bound('Search.num_samples')
  sampling = compiled_sampling.CompiledSampling(
      num_samples, 1.0, in_parts=in_parts, jit_compile=True
  )
  return tf.function(
      lambda state, seed: sampling.draw(agent.generative_policy, state, seed),
      autograph=False,
      input_signature=[
          tf.TensorSpec([None, setting.observation_size]),
          tf.TensorSpec([2], tf.int32),
      ],
  )


def main(_):
  """Measures all settings and prints the table."""
  print(
      '| setting | states | whole, ms | halves, ms | whole / halves |\n'
      + '|---' * 5 + '|'
  )
  for name in _SETTINGS.value:
    setting = hot_path_settings.SETTINGS[name]
    agent = hot_path_rows.HotPath(setting).agent
    ways = [make_sample(setting, agent, in_parts=x) for x in (False, True)]
    for num_states in (1, 8, 50):
      states = tf.random.stateless_normal(
          [num_states, setting.observation_size], [1, 2]
      )
      seconds = np.zeros([_TURNS.value, 2])
      for i in range(-_WARM_UP, _TURNS.value):
        for way, sample in enumerate(ways):
          start = time.perf_counter()
          sample(states, tf.constant([i, 7])).numpy()
          seconds[i, way] = time.perf_counter() - start  # Warm-up is replaced.
      whole, halves = 1e3 * np.median(seconds, axis=0)
      print(
          f'| {name} | {num_states} | {whole:.2f} | {halves:.2f} '
          f'| {whole / halves:.2f} |'
      )


if __name__ == '__main__':
  hot_path_settings.use_two_threads()
  app.run(main)
