r"""Keeps the successful episodes of a dataset, without rewards or flags.

  parl-data generate pointmaze --output runs/maze.hdf5 \
    --num_steps 60000 --seed 5
  python -m benchmarks.demonstrations --dataset runs/maze.hdf5 \
    --output runs/demonstrations.hdf5

The output is like teleoperated demonstrations: only the ends of the episodes
are marked.
"""

from absl import app
from absl import flags
import h5py
import numpy as np

from parl_tf.datasets import reading


def main(_):
  """Writes the file."""
  kept = [
      x
      for x in reading.read_episodes(flags.FLAGS.dataset)
      if np.any(x.success)
  ]
  ends = [np.arange(x.num_steps) == x.num_steps - 1 for x in kept]
  with h5py.File(flags.FLAGS.output, 'w') as file:
    file['observations'] = np.concatenate([x.observation[:-1] for x in kept])
    file['actions'] = np.concatenate([x.action for x in kept])
    file['timeouts'] = np.concatenate(ends)
    file['terminals'] = np.zeros_like(file['timeouts'])
  print(f'{len(kept)} episodes, {sum(x.num_steps for x in kept)} steps.')


if __name__ == '__main__':
  flags.DEFINE_string('dataset', None, 'The dataset.', required=True)
  flags.DEFINE_string('output', None, 'HDF5 file to write.', required=True)
  app.run(main)
