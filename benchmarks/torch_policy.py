"""Improves a mixture of Gaussians in PyTorch on a task, where it lives.

  python -m benchmarks.torch_policy --root_dir runs/torch \
      --torch_python torch_venv/bin/python --seeds 0,1,2 --task point_maze

`examples/torch_policy` describes the environment of PyTorch, and
`served_policies` what is measured.
"""

import pathlib
from typing import List, Sequence

from absl import app
from absl import flags
import h5py

from benchmarks import served_policies

_PYTHON = flags.DEFINE_string(
    'torch_python', None, 'Python interpreter that has PyTorch.', required=True
)
_NUM_BASE_STEPS = flags.DEFINE_integer(
    'num_base_steps', 3_000, 'Gradient steps that clone the dataset.'
)

_EXAMPLE = pathlib.Path(__file__).parents[1] / 'examples' / 'torch_policy'


class TorchSeed(served_policies.Seed):
  """The steps of one seed; see `served_policies`."""

  def train_base(self) -> None:
    self.run_command('base', [
        _PYTHON.value, str(_EXAMPLE / 'train.py'), self.path('data.hdf5'),
        self.path('base'), f'--seed={self.seed}',
        f'--steps={_NUM_BASE_STEPS.value}',
    ])

  def serve(self) -> List[str]:
    with h5py.File(self.path('data.hdf5')) as file:
      state_size, action_size = (
          file[name].shape[1] for name in ('observations', 'actions')
      )
    return [
        _PYTHON.value, str(_EXAMPLE / 'serve.py'), self.path('base'),
        f'--observation=observation={state_size}',
        f'--action_size={action_size}',
    ]


def main(argv: Sequence[str]) -> None:
  """Runs everything that is missing, then writes `results.json`."""
  del argv
  served_policies.run(TorchSeed)


if __name__ == '__main__':
  app.run(main)
