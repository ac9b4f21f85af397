"""Costs of an action cache: critic updates with it, and filling it.

  python -m benchmarks.cache_costs

First times critic updates that draw the policy's samples and updates that read
them, at the sizes of a setting of `benchmarks.hot_path`, and compares the TD
targets for equal samples. Next draws the samples of a shard by a policy in this
process: by TensorFlow's operations one by one, and as a run does. Then fills
caches by one, two and four servers, for a policy that waits, as one on another
machine does, and for one that computes on this machine. All sides take turns;
times are medians of elapsed seconds, and ratios those of one turn.
"""

import functools
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Callable, Dict, List

from absl import app
from absl import flags
from absl import logging
import gin
import numpy as np
import tensorflow as tf

from benchmarks import hot_path_rows
from benchmarks import hot_path_settings
from parl_tf.binaries import cache_run
from parl_tf.binaries import configs
from parl_tf.datasets import generate
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import action_cache
from parl_tf.replay import experience
from parl_tf.search import state_actions
from parl_tf.serving import client as client_lib
from parl_tf.serving import policy_spec
from parl_tf.serving import server
from parl_tf.training import cached_samples
from parl_tf.training import progress

_SETTING = flags.DEFINE_enum(
    'setting', 'small_robot', list(hot_path_settings.SETTINGS), 'Sizes.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Turns.', lower_bound=1)
_NUM_STEPS = flags.DEFINE_integer(
    'num_steps', 16_384, 'Environment steps whose states are cached.'
)
_STATE_MS = flags.DEFINE_float(
    'state_ms', 0.5, 'Milliseconds a state takes the policy that waits.'
)
_MATRIX_SIZE = flags.DEFINE_integer(
    'matrix_size', 192, 'Size of the product a state takes the one that counts.'
)
_PORT = flags.DEFINE_integer('port', 8150, 'First of eight ports.')
_SERVE = flags.DEFINE_string(
    'serve', None, '`waits` or `computes`: serves it; used internally.'
)

_WORKERS = (1, 2, 4)
_KINDS = ('waits', 'computes')
_NUM_SAMPLES = 16


def median_and_ratios(seconds: Dict[str, List[float]]) -> None:
  """Prints the median of each side, and its ratio to the first side."""
  first = next(iter(seconds.values()))
  for name, values in seconds.items():
    ratio = statistics.median(x / y for x, y in zip(first, values))
    print(
        f'  {name}: {statistics.median(values):.3g} s, first / this '
        f'{ratio:.2f}',
        flush=True,
    )


def in_turns(sides: Dict[str, Callable[[], None]], num_rounds: int):
  """Returns the elapsed seconds of each side in each turn, by name."""
  seconds = {name: [] for name in sides}
  for _ in range(num_rounds):
    for name, function in sides.items():
      start = time.monotonic()
      function()
      seconds[name].append(time.monotonic() - start)
  return seconds


def time_updates(path: hot_path_rows.HotPath) -> None:
  """Prints the seconds of critic updates, and compares their targets."""
  rows = path.rows()
  sides = {
      'samples drawn': rows['critic_update_fresh']().run,
      'samples cached': rows['critic_update_given']().run,
  }
  for function in sides.values():
    function()  # Compiles.
  print(f'Critic updates, setting {_SETTING.value}:')
  median_and_ratios(
      in_turns(
          {name: functools.partial(_wait, x) for name, x in sides.items()},
          _ROUNDS.value,
      )
  )
  equal, other = compare_targets(path)
  print(
      f'  largest difference of targets: {equal:.2g} for equal samples, '
      f'{other:.2g} for those of other states'
  )


def compare_targets(path: hot_path_rows.HotPath):
  """Returns how much TD targets differ between drawn and given samples.

  Args:
    path: Agent and rows.

  Returns:
    The largest difference of a row, and that for the samples of other states.
  """
  agent, seed = path.agent, tf.constant([7, 9])
  request = experience.ExperienceRequest(
      critic_slices=1, critic_batch_size=128
  )
  rows = next(path.memory.iterate(0, 1, request)).critic

  @tf.function(autograph=False)
  def targets(rows, samples):
    transition, source = agent._rows.bind(rows, seed, None)
    if samples is not None:
      source = state_actions.make_source(
          agent.searches.training, agent.generative_policy, agent.critic,
          transition, seed, samples=samples,
      )
    drawn = tf.stack([source.here.base(), source.next.base()], axis=1)
    return agent.critic._target(transition, source, seed), drawn

  fresh, samples = targets(rows, None)

  def difference(samples):
    given, _ = targets(rows, samples)
    return float(tf.reduce_max(tf.abs(fresh - given)))

  return difference(samples), difference(samples[::-1])


def time_drawing(path: hot_path_rows.HotPath) -> None:
  """Prints the seconds in which a policy of this process fills a shard."""
  policy, search = path.agent.generative_policy, path.agent.searches.training
  num_states = action_cache.STATES_PER_SHARD
  size = hot_path_settings.SETTINGS[_SETTING.value].observation_size
  observation = np.random.default_rng(0).normal(size=[num_states, size])
  states, seed = observation.astype(np.float32), np.array([7, 9], np.int32)
  graph = tf.function(
      lambda states, seed: policy.sample(
          states, search.num_samples, seed, temperature=search.temperature
      ),
      autograph=False,
  )
  draw = cached_samples.local_sampler(search, policy, num_states)
  sides = {
      'one by one': lambda: graph(tf.constant(states), tf.constant(seed)),
      'as a run does': lambda: draw(states, search.num_samples, seed),
  }
  one_by_one, as_a_run = (np.asarray(side()) for side in sides.values())
  print(
      f'Samples of {num_states} states, {search.num_samples} each, setting'
      f' {_SETTING.value}:'
  )
  median_and_ratios(
      in_turns(
          {name: lambda x=x: np.asarray(x()) for name, x in sides.items()},
          _ROUNDS.value,
      )
  )
  difference = np.max(np.abs(one_by_one - as_a_run))
  print(f'  largest difference of a sample: {difference:.2g}')


def _wait(function) -> None:
  for leaf in tf.nest.flatten(function()):
    leaf.numpy()


def time_filling() -> None:
  """Prints the seconds in which servers fill a cache."""
  with tempfile.TemporaryDirectory() as folder:
    dataset = os.path.join(folder, 'data.hdf5')
    gin.clear_config()
    configs.parse(
        ['quickstart.gin', 'policies/served.gin'],
        [f'Search.num_samples = {_NUM_SAMPLES}'],
    )
    generate.record_task(
        dataset,
        domain_lib.select_domain(),
        num_steps=_NUM_STEPS.value,
        seed=0,
        make_progress=progress.Progress,
        repeat=domain_lib.act_until_kept,
    )
    for index, kind in enumerate(_KINDS):
      ports = [_PORT.value + 4 * index + i for i in range(max(_WORKERS))]
      processes = [_start(kind, port) for port in ports]
      try:
        addresses = [f'ws://127.0.0.1:{port}' for port in ports]
        for address in addresses:
          client_lib.PolicyClient(address, patience_seconds=120).close()
        _time_workers(folder, dataset, kind, addresses)
      finally:
        for process in processes:
          process.terminate()
          process.wait()


def _time_workers(folder, dataset, kind, addresses) -> None:
  """Fills caches by several numbers of servers, in turns."""
  digests, numbers = set(), iter(range(10**6))

  def fill(workers):
    output = os.path.join(folder, f'{kind}_{next(numbers)}')
    cache_run.fill(output, dataset, addresses[:workers])
    with open(os.path.join(output, 'samples.npy'), 'rb') as file:
      digests.add(hashlib.file_digest(file, 'sha256').hexdigest())

  sides = {
      f'{workers} servers': functools.partial(fill, workers)
      for workers in _WORKERS
  }
  print(
      f'Cache of {_NUM_STEPS.value} steps, {_NUM_SAMPLES} samples, a policy '
      f'that {kind}, {os.cpu_count()} cores:'
  )
  median_and_ratios(in_turns(sides, _ROUNDS.value))
  print(f'  different files: {len(digests)} (1 is right)')


def _start(kind, port):
  return subprocess.Popen(
      [
          sys.executable, '-m', 'benchmarks.cache_costs', f'--serve={kind}',
          f'--port={port}', f'--state_ms={_STATE_MS.value}',
          f'--matrix_size={_MATRIX_SIZE.value}',
      ],
      env=dict(os.environ, OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'),
  )


def serve() -> None:
  """Serves a policy whose samples take a known time."""
  size = _MATRIX_SIZE.value
  matrix = np.random.default_rng(0).normal(size=(size, size))

  def sample(observation, num_samples, seed):
    state = observation['observation']
    if _SERVE.value == 'waits':
      time.sleep(1e-3 * _STATE_MS.value * len(state))
    else:
      for _ in state:
        matrix @ matrix
    random = np.random.default_rng(seed)
    return random.uniform(-1.0, 1.0, [len(state), num_samples, 1, 2])

  spec = policy_spec.PolicySpec(
      {'observation': policy_spec.ArraySpec((4,))}, action_size=2
  )
  server.serve(sample, spec=spec, port=_PORT.value)


def main(argv) -> None:
  """Prints all parts."""
  del argv
  logging.set_verbosity(logging.ERROR)
  if _SERVE.value:
    serve()
    return
  hot_path_settings.use_two_threads()
  path = hot_path_rows.HotPath(hot_path_settings.SETTINGS[_SETTING.value])
  time_updates(path)
  time_drawing(path)
  time_filling()


if __name__ == '__main__':
  app.run(main)
