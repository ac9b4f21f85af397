"""Measures the throughput of several collectors and of the replay tables.

  python -m benchmarks.collection --root_dir /tmp/collection

Prints the environment steps per second of 1, 2, 4 and 8 collectors, with the
learner training (they then wait for it, `collect.max_episodes_ahead`) and
without it. Also prints the steps per second that the learner trains on, which
converge to the same rate, and the cores that each role uses. Then prints the
transitions per second that a replay server in this process accepts, and the
batches of 256 per second sampled from it, for small states and for images.
"""

import os
import signal
import time
from typing import Dict, Sequence

from absl import app
from absl import flags
import numpy as np
import tensorflow as tf

from benchmarks import drill_run
from parl_tf import types
from parl_tf.distributed import weights
from parl_tf.replay import episode_writer
from parl_tf.replay import experience
from parl_tf.replay import reverb_experience
from parl_tf.replay import stored_step
from parl_tf.replay import tables

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of the run; must be new.', required=True
)
_GIN_FILE = flags.DEFINE_multi_string(
    'gin_file', ['quickstart.gin'], 'gin files of the experiment.'
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings',
    [
        *drill_run.SHORT_PHASES,
        'Online.num_episodes = 1_000_000',
        'Online.evaluation_interval = 1_000_000',
    ],
    'Changes to the experiment; by default, short phases before the online one.'
)
_NUM_COLLECTORS = flags.DEFINE_multi_integer(
    'num_collectors', [1, 2, 4, 8], 'Numbers of collectors to measure.'
)
_SECONDS = flags.DEFINE_float('seconds', 30.0, 'Duration of each measurement.')
_WAYS = flags.DEFINE_multi_enum(
    'learner', ['running', 'stopped'], ['running', 'stopped'],
    'Learner states to measure.',
)

_BATCH_SIZE = 256
_EPISODE_STEPS = 64
_ACTION = tf.TensorSpec([2], tf.float32)
_OBSERVATIONS = {
    'state of 4 numbers': tf.TensorSpec([4], tf.float32),
    'image of 64 x 64 x 3': tf.TensorSpec([64, 64, 3], tf.uint8),
}


def time_collection(way: str) -> None:
  """Prints one row for each number of collectors."""
  bindings = list(_GIN_BINDINGS.value)
  if way == 'stopped':
    bindings.append('collect.max_episodes_ahead = None')
  run = drill_run.Run(
      os.path.join(os.path.abspath(_ROOT_DIR.value), way),
      _GIN_FILE.value,
      bindings,
      seed=0,
      num_collectors=max(_NUM_COLLECTORS.value),
  )
  try:
    for role in ('service', 'learner'):
      run.start(role)
    run.wait('the learner has sent weights', lambda: _has_weights(run))
    if way == 'stopped':
      run.signal('learner', signal.SIGSTOP)
    for number in _NUM_COLLECTORS.value:
      _time_collectors(run, way, run.collectors[:number])
  finally:
    run.stop()


def _time_collectors(run, way, names) -> None:
  before = run.books().acknowledged
  for name in names:
    run.start(name)
  run.wait(
      'each collector has delivered an episode',
      lambda: all(
          run.books().acknowledged[i] > before[i] for i in range(len(names))
      ),
  )
  roles = ['service', *([] if way == 'stopped' else ['learner']), *names]
  start = time.monotonic()
  num_steps, trained = run.books().num_journal_steps, _train_step(run)
  cpu = {role: run.cpu_seconds(role) for role in roles}
  time.sleep(_SECONDS.value)
  seconds = time.monotonic() - start
  cores = {x: (run.cpu_seconds(x) - cpu[x]) / seconds for x in roles}
  rate = (run.books().num_journal_steps - num_steps) / seconds
  trained = (_train_step(run) - trained) / seconds
  run.stop(*names)
  print(
      f'learner {way}, {len(names)} collectors: {rate:.0f} steps/s, trained on'
      f' {trained:.0f}; cores: {_describe(cores, names)}',
      flush=True,
  )


def _has_weights(run) -> bool:
  try:
    # The progress is published before the weights.
    return bool(run.link.size(weights.TABLE))
  except ConnectionError:  # The service has not started yet.
    return False


def _train_step(run) -> int:
  return weights.read_progress(run.link)['train_step']


def _describe(cores: Dict[str, float], collectors: Sequence[str]) -> str:
  parts = [
      f'{role} {used:.2f}'
      for role, used in cores.items()
      if role not in collectors
  ]
  used = [cores[name] for name in collectors]
  parts.append(f'collectors {sum(used):.2f}')
  parts.append(f'total {sum(cores.values()):.2f} of {os.cpu_count()}')
  return ', '.join(parts)


def time_replay(name: str, observation_spec: tf.TensorSpec) -> None:
  """Prints the throughput of the tables in this process."""
  signature = stored_step.signature(observation_spec, _ACTION)
  server = tables.ReplayServer(signature, max_size=20_000)
  constants = dict(reward_scale=1.0, reward_bias=0.0)
  writer = episode_writer.EpisodeWriter(
      gamma=0.99, never_succeeds_value=None, sink=server, **constants
  )
  draw = np.random.default_rng(0)
  steps = [_EPISODE_STEPS + 1, *observation_spec.shape]
  # Noise, which cannot be compressed.
  if observation_spec.dtype == tf.uint8:
    observation = draw.integers(0, 256, steps, np.uint8)
  else:
    observation = draw.normal(size=steps).astype(np.float32)
  episode = types.Episode(
      observation=observation,
      action=draw.uniform(-1, 1, [_EPISODE_STEPS, 2]).astype(np.float32),
      reward=np.zeros(_EPISODE_STEPS, np.float32),
      discount=np.ones(_EPISODE_STEPS, np.float32),
      success=np.zeros(_EPISODE_STEPS, np.bool_),
  )
  num_episodes, seconds = _repeat(lambda: writer.write('offline', episode))
  inserts = num_episodes * _EPISODE_STEPS / seconds
  source = reverb_experience.ReverbExperience(
      signature, address=server.address, **constants
  )
  rows = source.iterate(
      0, 0, experience.ExperienceRequest(cloning_batch_size=_BATCH_SIZE)
  )
  next(rows)
  num_batches, seconds = _repeat(lambda: next(rows))
  print(
      f'{name}: {inserts:.0f} transitions/s inserted, '
      f'{num_batches / seconds:.1f} batches/s of {_BATCH_SIZE} sampled',
      flush=True,
  )
  server.stop()


def _repeat(function):
  """Returns the number of calls and the seconds they took."""
  start, number = time.monotonic(), 0
  while time.monotonic() - start < _SECONDS.value:
    function()
    number += 1
  return number, time.monotonic() - start


def main(argv):
  """Runs all measurements."""
  del argv
  # Treated as an interrupt, which also stops the roles.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  for name, observation_spec in _OBSERVATIONS.items():
    time_replay(name, observation_spec)
  for way in _WAYS.value:
    time_collection(way)


if __name__ == '__main__':
  app.run(main)
