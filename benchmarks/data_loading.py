"""Measures the time and memory needed to read a dataset.

  python -m benchmarks.data_loading --num_steps 1000000
  python -m benchmarks.data_loading --path antmaze.hdf5

Without `--path`, writes a file of random numbers with the ant's sizes in D4RL's
layout. Each part runs in a separate process. Its peak is the peak resident
memory of that process, minus the memory used by the imports.
"""

import multiprocessing
import os
import resource
import tempfile
import time

from absl import app
from absl import flags
import h5py
import numpy as np

_PATH = flags.DEFINE_string('path', None, 'Dataset; None to generate one.')
_NUM_STEPS = flags.DEFINE_integer('num_steps', 1_000_000, 'Generated steps.')
_EPISODE_STEPS = 1_000
_BLOCK = 100_000  # Rows written at once.


def write_random(path: str, num_steps: int) -> None:
  """Writes rows with 29 observations and 8 actions, and an end every 1,000."""
  random = np.random.default_rng(0)
  with h5py.File(path, 'w') as file:
    for name, shape, dtype in (
        ('observations', (29,), np.float32),
        ('actions', (8,), np.float32),
        ('rewards', (), np.float32),
        ('terminals', (), np.bool_),
        ('timeouts', (), np.bool_),
    ):
      column = file.create_dataset(
          name, (num_steps, *shape), dtype, chunks=True, compression='gzip'
      )
      for start in range(0, num_steps, _BLOCK):
        rows = min(_BLOCK, num_steps - start)
        block = np.zeros((rows, *shape), dtype)
        if shape:
          block[:] = random.uniform(-1.0, 1.0, block.shape)
        elif name == 'timeouts':
          block[_EPISODE_STEPS - 1::_EPISODE_STEPS] = True
        column[start:start + rows] = block


def _inspect(path):
  from parl_tf.datasets import inspection  # pylint: disable=g-import-not-at-top

  return lambda: inspection.inspect(path).num_rows


def _stream(path):
  from parl_tf.datasets import reading  # pylint: disable=g-import-not-at-top

  return lambda: sum(x.num_steps for x in reading.read_episodes(path))


def _keep(path):
  from parl_tf.datasets import reading  # pylint: disable=g-import-not-at-top

  return lambda: sum(
      x.num_steps for x in list(reading.read_episodes(path))
  )


def _table(path):
  from parl_tf.datasets import reading  # pylint: disable=g-import-not-at-top
  from parl_tf.replay import episode_writer  # pylint: disable=g-import-not-at-top
  from parl_tf.replay import memory_experience  # pylint: disable=g-import-not-at-top

  def load():
    memory = memory_experience.MemoryExperience(
        seed=0, reward_scale=1.0, reward_bias=0.0
    )
    writer = episode_writer.EpisodeWriter(
        gamma=0.99, reward_scale=1.0, reward_bias=0.0,
        never_succeeds_value=None, sink=memory,
    )
    for episode in reading.read_episodes(path):
      writer.write('offline', episode)
    return memory.num_transitions('offline')

  return load


_PARTS = {
    'inspect (all faults)': _inspect,
    'validate and read episode by episode': _stream,
    'the same, keeping all episodes': _keep,
    'validate, read and fill the table in memory': _table,
}


def _measure(make, path, results):
  load = make(path)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  start = time.perf_counter()
  count = load()
  seconds = time.perf_counter() - start
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  results.put((count, seconds, (peak - before) / 1024.0))


def main(_):
  """Prints one row per part."""
  with tempfile.TemporaryDirectory() as folder:
    path = _PATH.value
    if path is None:
      path = os.path.join(folder, 'random.hdf5')
      write_random(path, _NUM_STEPS.value)
    print(f'{os.path.getsize(path) / 2**20:.0f} MiB')
    print('| work | rows | seconds | rows/s | peak, MiB |')
    print('|---|---|---|---|---|')
    context = multiprocessing.get_context('spawn')
    for name, make in _PARTS.items():
      results = context.Queue()
      process = context.Process(target=_measure, args=(make, path, results))
      process.start()
      count, seconds, peak = results.get()
      process.join()
      print(
          f'| {name} | {count} | {seconds:.1f} | {count / seconds:.0f} '
          f'| {peak:.0f} |'
      )


if __name__ == '__main__':
  app.run(main)
