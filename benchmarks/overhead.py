"""Divides the time of each kind of step into arithmetic and overhead.

  python -m benchmarks.overhead --setting pointmaze --json overhead.json

Each round times every kind of step in four ways, on two threads:

*   "step": as the library runs it. "CPU" is the CPU time of all threads.
*   "tiny": the same graph with batches and networks so small that arithmetic
    vanishes. What remains is launching operations.
*   "floor": the same mathematics as one XLA program with unrolled loops.

An online turn adds rows, the learner's loop and Python to its two updates. Per
training step, "rows" is what drawing and copying rows takes alone, "ready" the
turn with rows that were drawn before, so that it waits for none.
"""

import functools
import json
import os
import tempfile
import time
from typing import Callable, Dict, Optional
from unittest import mock

from absl import app
from absl import flags
import gin
import numpy as np
import tensorflow as tf

from benchmarks import hot_path_rows
from benchmarks import hot_path_settings
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import experience as experience_lib
from parl_tf.search import compiled_search
from parl_tf.training import devices

_SETTING = flags.DEFINE_enum(
    'setting',
    'pointmaze',
    list(hot_path_settings.SETTINGS),
    'Sizes of the environment, batch and networks.',
)
_ROUNDS = flags.DEFINE_integer('rounds', 15, 'Timings of each kind of step.')
_JSON = flags.DEFINE_string('json', None, 'File to write the result to.')
_COMPARE = flags.DEFINE_string(
    'compare', None, 'File of an earlier result to compare with.'
)

_CALLS = 5  # Calls per timing.
_TURN_STEPS = 30
_NUM_EPISODES = 64  # Episodes of an evaluation.
_UPDATES = ('cloning', 'offline', 'online_critic', 'online_policy')

# Keeps the operations of the graph, and the members of the critic.
_TINY = (
    'Search.num_samples = 2',
    'ActionOptimizer.num_candidates = 2',
    'CalQLCritic.num_conservative_actions = 2',
    'DenoisingNetwork.hidden_size = 4',
    'DenoisingNetwork.time_size = 4',
    'HLGauss.num_bins = 4',
)


class Steps:
  """Calls that run one step of each kind."""

  def __init__(self, setting: hot_path_settings.Setting, jit_compile: bool):
    """Builds an agent and fills its tables.

    Args:
      setting: Sizes of the environment, batch and networks.
      jit_compile: Whether the agent's searches may use XLA.
    """
    self._batch_size = setting.batch_size
    self.path = hot_path_rows.HotPath(
        setting._replace(
            gin_bindings=[
                *setting.gin_bindings, f'Search.jit_compile = {jit_compile}'
            ]
        )
    )

  def update(self, kind: str, wrap: Callable = lambda part: part.update):
    """Returns a call that updates a part, such as 'online_critic'.

    Args:
      kind: One of `_UPDATES`.
      wrap: Maps a `TrainedPart` to its function of rows, seed and weights.
    """
    path, size = self.path, self._batch_size
    name = {'cloning': 'cloning', 'online_policy': 'policy'}.get(kind, 'critic')
    request = experience_lib.ExperienceRequest(
        critic_slices=1,
        critic_batch_size=size,
        policy_slices=1,
        policy_batch_size=size,
        cloning_batch_size=2 * size,
    )
    rows = getattr(next(path.memory.iterate(0, 1, request)), name)
    if kind == 'offline':
      rows = path.with_samples(rows)
    [part] = [x for x in path.agent.trained_parts if x.name == name]
    return functools.partial(wrap(part), rows, tf.constant([3, 5]), None)

  def act(self, num_states: int):
    """Returns a call that chooses actions for several states."""
    act = self.path.agent.greedy_policy.act
    observation = tf.random.stateless_normal(
        [num_states, self.path.agent.time_step_spec.observation.shape[0]],
        [0, num_states],
    )
    return functools.partial(act, observation, tf.constant([3, 5]))

  def turn(self, directory: str, prefix: str = 'turn'):
    """Returns calls by name that take the steps of an online turn.

    Args:
      directory: Directory that a learner may write to.
      prefix: Name of the turn; the others have a suffix.
    """
    agent = self.path.agent
    learner = devices.make_learner(
        directory, agent, tf.distribute.get_strategy()
    )
    steps = tf.nest.map_structure(
        lambda *x: tf.stack(x), *self._rows(_TURN_STEPS)
    )
    options = tf.data.Options()  # Those of `MemoryExperience`.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    ready = tf.data.Dataset.from_tensor_slices(steps).with_options(options)
    return {
        prefix: lambda: learner.run(_TURN_STEPS, self._rows(_TURN_STEPS)).loss,
        f'{prefix}/ready': lambda: learner.run(_TURN_STEPS, iter(ready)).loss,
        f'{prefix}/rows': lambda: list(self._rows(_TURN_STEPS))[-1].critic,
    }

  def _rows(self, num_steps: int):
    """Returns the rows of online training steps."""
    request = experience_lib.ExperienceRequest(
        critic_slices=1,
        critic_batch_size=self._batch_size,
        critic_offline_fraction=0.5,
        policy_slices=1,
        policy_batch_size=self._batch_size,
        policy_offline_fraction=0.5,
    )
    start = int(self.path.agent.train_step_counter.numpy())
    return self.path.memory.iterate(start, num_steps, request)


def floor(part):
  """Returns a part's update as one XLA program with unrolled loops."""
  return tf.function(part._step, autograph=False, jit_compile=True)


def unrolled(cond, body, loop_vars, maximum_iterations, **unused):
  """Replaces `tf.while_loop` for loops that run to their maximum."""
  del cond, unused
  for _ in range(maximum_iterations):
    loop_vars = body(*loop_vars)
  return loop_vars


def tiny(setting: hot_path_settings.Setting):
  """Returns a setting with the same graph and next to no arithmetic.

  Args:
    setting: A setting that gin is configured for.
  """
  num_layers = len(gin.query_parameter('CriticEnsemble.hidden_sizes'))
  return setting._replace(
      batch_size=2,
      gin_bindings=[
          *setting.gin_bindings,
          *_TINY,
          f'CriticEnsemble.hidden_sizes = {(4,) * num_layers}',
      ],
  )


def physics(num_environments: int) -> Optional[Callable[[], None]]:
  """Returns a call that steps environments, if gin names a domain."""
  domain = domain_lib.select_domain()
  environments = [
      domain.make_environment(seed=i, evaluation=True)
      for i in range(num_environments)
  ]
  action = np.zeros(domain.action_spec().shape, np.float32)
  for environment in environments:
    environment.reset()

  def step():
    for environment in environments:
      if environment.step(action).last():
        environment.reset()

  return step


def timed(run, calls: int):
  """Returns wall and CPU milliseconds per call."""
  wall, cpu = time.perf_counter(), time.process_time()
  for _ in range(calls):
    for leaf in tf.nest.flatten(run()):
      if hasattr(leaf, 'numpy'):
        leaf.numpy()
  scale = 1e3 / calls
  wall = time.perf_counter() - wall
  return scale * wall, scale * (time.process_time() - cpu)


def make_runs(setting, directory: str) -> Dict[str, Callable]:
  """Returns calls by name, `kind`, `kind/tiny` or `kind/floor`."""
  runs = {}
  steps = Steps(setting, jit_compile=True)
  for kind in _UPDATES:
    runs[kind] = steps.update(kind)
  runs.update(steps.turn(os.path.join(directory, 'turn')))
  runs['acting'] = steps.act(1)
  runs['evaluation'] = steps.act(_NUM_EPISODES)
  if _has_domain():
    runs['acting/physics'] = physics(1)
    runs['evaluation/physics'] = physics(_NUM_EPISODES)
  whole = Steps(setting, jit_compile=False)
  for kind in _UPDATES:
    runs[f'{kind}/floor'] = whole.update(kind, floor)
  small = Steps(tiny(setting), jit_compile=True)
  for kind in _UPDATES:
    runs[f'{kind}/tiny'] = small.update(kind)
  runs.update(small.turn(os.path.join(directory, 'tiny'), 'turn/tiny'))
  runs['acting/tiny'] = small.act(1)
  runs['evaluation/tiny'] = small.act(_NUM_EPISODES)
  # XLA compiles the searches of all settings at full size.
  for name, run in runs.items():
    loop = unrolled if name.endswith('/floor') else tf.while_loop
    size = 0 if name.endswith('/tiny') else compiled_search._MIN_BYTES
    with mock.patch.object(tf, 'while_loop', loop):
      with mock.patch.object(compiled_search, '_MIN_BYTES', size):
        start = time.perf_counter()
        timed(run, 1)
        print(f'{name}: first call {time.perf_counter() - start:.1f} s')
  return runs


def _has_domain() -> bool:
  try:
    return gin.query_parameter('select_domain.domain') is not None
  except ValueError:
    return False


def measure(runs: Dict[str, Callable]) -> Dict[str, Dict[str, float]]:
  """Times all runs in turn; returns median wall and CPU ms by name."""
  times = {name: [] for name in runs}
  for _ in range(_ROUNDS.value):
    for name, run in runs.items():
      calls = 1 if name.startswith('turn') else _CALLS
      times[name].append(timed(run, calls))
  result = {}
  for name, pairs in times.items():
    scale = 1.0 / _TURN_STEPS if name.startswith('turn') else 1.0
    wall, cpu = scale * np.median(pairs, axis=0)
    result[name] = {'ms': wall, 'cpu_ms': cpu}
  return result


def print_table(result, earlier) -> None:
  """Prints a line per kind of step, beside an earlier result if given."""
  columns = ['step, ms', 'CPU, ms', 'tiny, ms', 'floor, ms', 'step / floor']
  if earlier:
    columns += ['before, ms', 'before / floor', 'before / now, to floor']
  print(f'\nSetting {_SETTING.value}.\n\n| kind | {" | ".join(columns)} |')
  print('|---' * (1 + len(columns)) + '|')
  for name, row in result.items():
    if '/' in name and not name.endswith('physics'):
      continue
    cells = [row['ms'], row['cpu_ms']]
    cells += [_ms(result, f'{name}/{x}') for x in ('tiny', 'floor')]
    cells.append(_ratio(result, name))
    if earlier:
      before = _ratio(earlier, name)
      cells += [_ms(earlier, name), before]
      cells.append(before and before / cells[4])
    texts = ['' if x is None else f'{x:.3g}' for x in cells]
    print(f'| {name} | {" | ".join(texts)} |')
  ms = {name: row['ms'] for name, row in result.items()}
  called = ms['online_critic/tiny'] + ms['online_policy/tiny']
  print(
      f'\nRows of a step of a turn take {ms["turn/rows"]:.2f} ms alone, and'
      f' {ms["turn"] - ms["turn/ready"]:.2f} ms of the turn.\nTwo tiny updates'
      f' called from Python take {called - ms["turn/tiny/ready"]:.2f} ms more'
      " than in the learner's loop."
  )


def _ms(result, name) -> Optional[float]:
  return result[name]['ms'] if name in result else None


def _ratio(result, name) -> Optional[float]:
  """Returns step / floor; the floor of a turn is that of its updates."""
  parts = ['online_critic', 'online_policy'] if name == 'turn' else [name]
  floors = [_ms(result, f'{part}/floor') for part in parts]
  return None if None in floors else result[name]['ms'] / sum(floors)


def main(_):
  """Runs all measurements, prints and writes the result."""
  setting = hot_path_settings.SETTINGS[_SETTING.value]
  with tempfile.TemporaryDirectory() as directory:
    result = measure(make_runs(setting, directory))
  earlier = None
  if _COMPARE.value:
    with open(_COMPARE.value, encoding='utf-8') as file:
      earlier = json.load(file)
  print_table(result, earlier)
  if _JSON.value:
    with open(_JSON.value, 'w', encoding='utf-8') as file:
      json.dump(result, file, indent=2)


if __name__ == '__main__':
  hot_path_settings.use_two_threads()
  app.run(main)
