"""Measures how long one robot waits for a decision, and how regularly.

  python -m benchmarks.decisions --json decisions.json

Each setting of `hot_path_settings.py`, and each of `IMAGES`, whose policies see
three frames of 48 x 48 pixels, gives a table row per way to act:

*   "in process": the greedy policy as the library evaluates it;
*   "SavedModel": `serving_default` of the exported policy, in a process with
    TensorFlow alone;
*   "C": the same in a program without Python (`examples/c_program`), by `--c`,
    which needs gcc; not from images.

"products" is the time of a decision's bare matrix products, measured in turn
with the decisions in process; those of policies that see images are not
counted. With `--busy`, another process keeps one core busy.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional

from absl import app
from absl import flags
import gin
import numpy as np
import tensorflow as tf

from benchmarks import c_program
from benchmarks import hot_path_rows
from benchmarks import hot_path_settings
from parl_tf.agents import parl_policy
from parl_tf.binaries import configs
from parl_tf.domains import domain as domain_lib
from parl_tf.training import experiment
from parl_tf.training import export

_SETTINGS = flags.DEFINE_list(
    'settings',
    ['pointmaze', 'small_robot', 'antmaze', 'maze_images', 'maze_vla'],
    'Settings to measure.',
)
_NUM_DECISIONS = flags.DEFINE_integer(
    'num_decisions', 10_000, 'Decisions of each row.'
)
_BUSY = flags.DEFINE_bool(
    'busy', False, 'Whether another process keeps one core busy.'
)
_C = flags.DEFINE_bool('c', False, 'Whether to measure a C program, too.')
_JSON = flags.DEFINE_string('json', None, 'File to write the result to.')

_BLOCK = 100  # Decisions between two timings of the products.
_NUM_STATES = 100  # Decisions take turns with them.

IMAGES = {
    'maze_images': ['experiments/drawn_maze_small.gin'],
    'maze_vla': ['experiments/drawn_maze_vla_small.gin'],
}
"""Gin files of policies that see images."""

# A program, so that nothing but TensorFlow is imported.
_SAVED_MODEL = """
import json, sys, time
import numpy as np
import tensorflow as tf
directory, count = sys.argv[1], int(sys.argv[2])
act = tf.saved_model.load(directory).signatures['serving_default']
with np.load(sys.argv[3]) as file:
  states = dict(file)
size = len(next(iter(states.values())))
seconds = []
for i in range(-50, count):
  start = time.perf_counter()
  state = {k: tf.constant(x[i % size][None]) for k, x in states.items()}
  act(seed=tf.constant([i, 7]), **state)['action'].numpy()
  seconds.append(time.perf_counter() - start)
print(json.dumps(seconds[50:]))
"""


class Robot(NamedTuple):
  """A policy and what it sees.

  Attributes:
    policy: The policy.
    states: Observations `[S, ...]` by input of the exported policy.
    products: Calls the bare matrix products of a decision; None if they are not
      counted.
  """

  policy: parl_policy.PARLPolicy
  states: Mapping[str, np.ndarray]
  products: Optional[Callable[[], object]]


def make_robot(name: str) -> Robot:
  """Builds the policy of a setting, with random weights."""
  if name in IMAGES:
    gin.clear_config()
    configs.parse(IMAGES[name], [])
    agent = experiment.make_agent(domain_lib.select_domain(), None, seed=0)
    products = None
  else:
    setting = hot_path_settings.SETTINGS[name]
    agent = hot_path_rows.HotPath(setting).agent
    products = make_products(setting)
  policy = agent.greedy_policy
  specs = export.by_name(policy.time_step_spec.observation)
  random = np.random.default_rng(0)
  states = {}
  for key, spec in specs.items():
    shape = [_NUM_STATES, *spec.shape]
    states[key] = (
        random.standard_normal(shape)
        if name not in IMAGES
        # Words are numbers of a small vocabulary.
        else random.integers(0, 256 if spec.dtype == tf.uint8 else 4, shape)
    ).astype(spec.dtype.as_numpy_dtype)
  return Robot(policy, states, products)


def make_products(setting: hot_path_settings.Setting) -> Callable[[], object]:
  """Returns a call of the matrix products of one decision.

  The critic's members run in two halves, as operations that can run in
  parallel. The products of the gradient multiply by the transposed kernels.
  """
  query = hot_path_settings.bound
  samples = query('Search.num_samples')
  candidates = query('ActionOptimizer.num_candidates')
  num_steps = query('ActionOptimizer.num_gradient_steps')
  width = query('DenoisingNetwork.hidden_size')
  time_size = hot_path_settings.parameter('DenoisingNetwork.time_size', 128)
  num_blocks = query('DenoisingNetwork.num_blocks')
  inputs = setting.observation_size + setting.action_size + time_size
  sizes = [inputs, width, *[4 * width, width] * num_blocks]
  policy = _kernels([], [*sizes, setting.action_size])
  members = query('CriticEnsemble.num_members')
  hidden = list(query('CriticEnsemble.hidden_sizes'))
  critic = _kernels(
      [members], [setting.action_size, *hidden, query('HLGauss.num_bins')]
  )
  num_denoising = query('DiffusionPolicy.num_denoising_steps')

  def evaluate(kernels, num_rows, with_gradient, previous):
    shape = [kernels[0].shape[0], num_rows, kernels[0].shape[1]]
    # Grappler would not wait for a control dependency of a constant.
    x = tf.fill(shape, tf.tanh(previous))
    for kernel in kernels:
      x = tf.matmul(x, kernel)
    if with_gradient:
      for kernel in reversed(kernels):
        x = tf.matmul(x, kernel, transpose_b=True)
    return tf.reduce_sum(x)

  @tf.function(autograph=False)
  def run():
    x = tf.ones([samples, inputs])
    for _ in range(num_denoising):
      y = x
      for kernel in policy:
        y = tf.matmul(y, kernel)
      x += y[:, :1]  # The next step waits for this one.
    halves = [
        [kernel[part] for kernel in critic]
        for part in (slice(0, members // 2), slice(members // 2, members))
    ]
    total = tf.reduce_sum(x)
    for i in range(num_steps + 2):
      num_rows = candidates if i else samples
      total = tf.add_n([
          evaluate(kernels, num_rows, 0 < i <= num_steps, total)
          for kernels in halves
      ])
    return total

  return run


def _kernels(leading, sizes):
  generator = np.random.default_rng(0)
  return [
      tf.Variable(
          generator.standard_normal([*leading, a, b], np.float32) / np.sqrt(a)
      )
      for a, b in zip(sizes[:-1], sizes[1:])
  ]


def timed(run, *arguments) -> float:
  """Returns the seconds of one call."""
  start = time.perf_counter()
  run(*arguments).numpy()
  return time.perf_counter() - start


def in_process(robot: Robot) -> Dict[str, List[float]]:
  """Times decisions, and the products in between."""
  spec = robot.policy.time_step_spec.observation
  names = list(export.by_name(spec))
  times = {'in process': [], 'products': []}
  for i in range(-50, _NUM_DECISIONS.value):
    row = [robot.states[x][i % _NUM_STATES][np.newaxis] for x in names]
    observation = tf.nest.map_structure(
        tf.constant, tf.nest.pack_sequence_as(spec, row)
    )
    seconds = timed(robot.policy.act, observation, tf.constant([i, 7]))
    if i >= 0:
      times['in process'].append(seconds)
    if i % _BLOCK == 0 and robot.products is not None:
      times['products'] += [timed(robot.products) for _ in range(5)]
  return times


def exported(robot: Robot) -> Dict[str, List[float]]:
  """Exports a policy and times its decisions in other processes."""
  one = np.ones(robot.policy.action_spec.shape, np.float32)
  spec = robot.policy.time_step_spec.observation
  example = tf.nest.pack_sequence_as(
      spec, [robot.states[x][:4] for x in export.by_name(spec)]
  )
  with tempfile.TemporaryDirectory() as root:
    directory = os.path.join(root, 'policy')
    export.export_policies({directory: robot.policy}, (-one, one), example)
    path = os.path.join(root, 'states.npz')
    np.savez(path, **robot.states)
    output = subprocess.run(
        [
            sys.executable,
            '-c',
            _SAVED_MODEL,
            directory,
            str(_NUM_DECISIONS.value),
            path,
        ],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, 'TF_NUM_INTRAOP_THREADS': '1'},
    ).stdout
    times = {'SavedModel': json.loads(output)}
    if _C.value and robot.products is not None:
      _, times['C'] = c_program.act(
          c_program.build(root),
          directory,
          _NUM_DECISIONS.value,
          next(iter(robot.states.values()))[0],
      )
  return times


@contextlib.contextmanager
def busy_core():
  """Keeps one core busy, if `--busy` asks for it."""
  if not _BUSY.value:
    yield
    return
  process = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
  try:
    yield
  finally:
    process.kill()
    process.wait()


def print_row(name, way, seconds, products) -> None:
  """Prints a row of the table, in ms."""
  median, tail = 1e3 * np.percentile(seconds, [50, 99.9])
  ratio = ' | '
  if products:
    bare = 1e3 * np.median(products)
    ratio = f'{bare:.2f} | {median / bare:.2f}'
  print(
      f'| {name} | {way} | {median:.2f} | {tail:.2f} | {tail / median:.2f} '
      f'| {ratio} |'
  )


def main(_):
  """Measures all settings and prints the table."""
  result = {}
  print(
      '| setting | way | median, ms | 99.9th percentile, ms | tail / median '
      '| products, ms | median / products |\n' + '|---' * 7 + '|'
  )
  for name in _SETTINGS.value:
    robot = make_robot(name)
    with busy_core():
      times = in_process(robot)
      times.update(exported(robot))
    for way, seconds in times.items():
      if way != 'products':
        print_row(name, way, seconds, times['products'])
    result[name] = times
  if _JSON.value:
    with open(_JSON.value, 'w', encoding='utf-8') as file:
      json.dump(result, file)


if __name__ == '__main__':
  hot_path_settings.use_two_threads()
  app.run(main)
