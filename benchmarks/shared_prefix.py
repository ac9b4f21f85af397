"""Times samples of the vision-language-action policy on one core.

  python -m benchmarks.shared_prefix

Compares N samples that share the reading of their state with N copies of the
state, at the sizes of `gin/policies/vla.gin` and for pictures of 48 x 48 pixels
with three frames and five words. Also prints the sizes of base and adapters,
and the time of an update of all weights and of the adapters. The two sides take
turns; the figures are medians of processor time.
"""

import time

from absl import app
from absl import flags
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.policies import vla

_NUM_SAMPLES = flags.DEFINE_integer('num_samples', 16, 'N.', lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer(
    'batch_size', 1, 'States of a draw.', lower_bound=1
)
_ACTION_SIZE = flags.DEFINE_integer('action_size', 7, 'A.', lower_bound=2)
_REPEATS = flags.DEFINE_integer('repeats', 15, 'Repetitions.', lower_bound=1)
_UPDATE_ROWS = 64
_SPEC = {
    'instruction': tf.TensorSpec([5], tf.float32, 'instruction'),
    'picture': tf.TensorSpec([48, 48, 9], tf.uint8, 'picture'),
}


def time_in_turns(functions):
  """Returns the median milliseconds of each function, by name."""
  for function in functions.values():
    function()  # Traces.
  seconds = {name: [] for name in functions}
  for _ in range(_REPEATS.value):
    for name, function in functions.items():
      start = time.process_time()
      function()
      seconds[name].append(time.process_time() - start)
  return {name: 1e3 * np.median(x) for name, x in seconds.items()}


def make_observation(batch_size):
  """Returns a random observation `[batch_size, ...]`."""
  random = np.random.default_rng(0)
  return {
      'instruction': tf.constant(
          random.integers(0, 6, [batch_size, 5]), tf.float32
      ),
      'picture': tf.constant(
          random.integers(0, 256, [batch_size, 48, 48, 9]), tf.uint8
      ),
  }


def main(argv):
  """Prints the sizes and times."""
  del argv
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  spec = types.ModelSpec(_SPEC, tf.TensorSpec([_ACTION_SIZE.value]))
  policy = vla.LowRankPolicy(spec)
  seed = tf.constant([1, 2])
  base_bytes = sum(4 * v.shape.num_elements() for v in policy.base.variables)
  print(
      f'base {base_bytes / 2**20:.2f} MiB, '
      f'adapters {policy.adapters.num_bytes / 2**20:.2f} MiB'
  )
  observation = make_observation(_BATCH_SIZE.value)
  copies = tf.nest.map_structure(
      lambda x: tf.repeat(x, _NUM_SAMPLES.value, axis=0), observation
  )
  merged = policy.deployed()

  def sampler(sampled, states, num_samples):
    return tf.function(
        lambda: sampled.sample(states, num_samples, seed), autograph=False
    )

  rows = make_observation(_UPDATE_ROWS)
  action = tf.zeros([_UPDATE_ROWS, _ACTION_SIZE.value])

  def gradient(variables):
    def compute():
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        loss = tf.reduce_mean(policy.distillation_loss(rows, action, seed))
      return tape.gradient(loss, variables)

    return tf.function(compute, autograph=False)

  times = time_in_turns({
      'samples, prefix shared': sampler(
          policy, observation, _NUM_SAMPLES.value
      ),
      'samples, prefix copied': sampler(policy, copies, 1),
      'samples, prefix shared, adapters merged': sampler(
          merged, observation, _NUM_SAMPLES.value
      ),
      f'gradient of {_UPDATE_ROWS} rows, all weights': gradient(
          policy.base.trainable_variables
      ),
      f'gradient of {_UPDATE_ROWS} rows, adapters': gradient(
          policy.trainable_variables
      ),
  })
  for name, milliseconds in times.items():
    print(f'{name}: {milliseconds:.1f} ms')


if __name__ == '__main__':
  app.run(main)
