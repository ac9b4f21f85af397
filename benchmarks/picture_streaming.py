"""Trains from pictures that take twice the memory that a process may have.

  python -m benchmarks.picture_streaming --mebibytes 512

Records a dataset of random pictures, 100 x 100 pixels. Two processes, each
limited to the given MiB of memory (RLIMIT_DATA) beyond what its imports take,
read it, fill the table and draw rows: one keeps the pictures in a file, the
other in memory. Prints the peak of each process's own memory (`RssAnon`), and
how it ended. Pages of the file count as memory of the operating system, which
takes them back when it needs them.
"""

import multiprocessing
import os
import resource
import tempfile
import time

from absl import app
from absl import flags
import gin
import h5py
import numpy as np

from parl_tf.replay import episode_writer
from parl_tf.replay import experience
from parl_tf.replay import memory_experience
from parl_tf.training import run_dataset

_MEBIBYTES = flags.DEFINE_integer(
    'mebibytes', 512, 'Memory of a process; half the pictures.', lower_bound=64
)
_SHAPE = (100, 100, 3)
_EPISODE_STEPS = 100
_ROWS = 128
_BATCHES = 50


class _Task:
  """Accepts any dataset."""

  def dataset_options(self):
    return {}


def write_pictures(path, num_steps):
  """Writes `num_steps` rows with random pictures in D4RL's layout."""
  random = np.random.default_rng(0)
  with h5py.File(path, 'w') as file:
    pictures = file.create_dataset(
        'observations/picture', (num_steps, *_SHAPE), np.uint8,
        chunks=(10, *_SHAPE),
    )
    for start in range(0, num_steps, _EPISODE_STEPS):
      end = min(start + _EPISODE_STEPS, num_steps)
      pictures[start:end] = random.integers(
          0, 256, [end - start, *_SHAPE], np.uint8
      )
    file['actions'] = np.zeros([num_steps, 2], np.float32)
    file['rewards'] = np.zeros([num_steps], np.float32)
    file['terminals'] = np.zeros([num_steps], bool)
    file['timeouts'] = np.arange(1, num_steps + 1) % _EPISODE_STEPS == 0


def _status(name):
  with open('/proc/self/status', encoding='utf-8') as file:
    (line,) = (x for x in file if x.startswith(name + ':'))
  return int(line.split()[1]) / 1024  # MiB.


def _train(path, picture_memory_bytes, mebibytes, results):
  limit = int((_status('VmData') + mebibytes) * 2**20)
  before = _status('RssAnon')
  resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
  gin.bind_parameter(
      'load_dataset.picture_memory_bytes', picture_memory_bytes
  )
  peak, ending, start = 0.0, '', time.perf_counter()
  try:
    episodes = run_dataset.load(path, _Task(), os.path.dirname(path))
    table = memory_experience.MemoryExperience(
        seed=0, reward_scale=1.0, reward_bias=0.0, max_block_bytes=2**25
    )
    writer = episode_writer.EpisodeWriter(
        gamma=0.99, reward_scale=1.0, reward_bias=0.0,
        never_succeeds_value=None, sink=table,
    )
    for episode in episodes:
      writer.write('offline', episode)
      peak = max(peak, _status('RssAnon') - before)
    loaded = time.perf_counter()
    request = experience.ExperienceRequest(cloning_batch_size=_ROWS)
    for _ in table.iterate(0, _BATCHES, request):
      peak = max(peak, _status('RssAnon') - before)
    rate = _ROWS * _BATCHES / (time.perf_counter() - loaded)
    ending = (
        f'read in {loaded - start:.0f} s, {rate:,.0f} rows per second'
    )
  except MemoryError as error:
    ending = f'MemoryError: {error}'
  results.put((max(peak, _status('RssAnon') - before), ending))


def main(argv):
  """Prints a line per process."""
  del argv
  context = multiprocessing.get_context('spawn')
  num_steps = 2 * _MEBIBYTES.value * 2**20 // int(np.prod(_SHAPE))
  num_steps -= num_steps % _EPISODE_STEPS
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(os.path.abspath(folder), 'pictures.hdf5')
    write_pictures(path, num_steps)
    mebibytes = num_steps * np.prod(_SHAPE) / 2**20
    print(
        f'{num_steps} pictures, {mebibytes:.0f} MiB; limit '
        f'{_MEBIBYTES.value} MiB'
    )
    for name, memory_bytes in (('file', 0), ('memory', 2**50)):
      results = context.SimpleQueue()
      process = context.Process(
          target=_train, args=(path, memory_bytes, _MEBIBYTES.value, results)
      )
      process.start()
      process.join()
      if results.empty():
        print(f'pictures in {name}: ended with {process.exitcode}')
        continue
      peak, ending = results.get()
      print(f'pictures in {name}: peak {peak:.0f} MiB; {ending}')


if __name__ == '__main__':
  app.run(main)
