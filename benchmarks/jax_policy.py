"""Improves a flow policy in JAX on a task, where it lives.

  python -m benchmarks.jax_policy --root_dir runs/jax \
      --jax_python jax_venv/bin/python --seeds 0,1,2 --task point_maze

`examples/jax_policy` describes the environment of JAX, and `served_policies`
what is measured.
"""

import pathlib
from typing import List, Sequence

from absl import app
from absl import flags

from benchmarks import served_policies

_PYTHON = flags.DEFINE_string(
    'jax_python', None, 'Python interpreter that has JAX.', required=True
)
_NUM_BASE_STEPS = flags.DEFINE_integer(
    'num_base_steps', 3_000, 'Gradient steps that clone the dataset.'
)

_EXAMPLE = pathlib.Path(__file__).parents[1] / 'examples' / 'jax_policy'


class JaxSeed(served_policies.Seed):
  """The steps of one seed; see `served_policies`."""

  def train_base(self) -> None:
    self.run_command('base', [
        _PYTHON.value, str(_EXAMPLE / 'train.py'), self.path('data.hdf5'),
        self.path('base'), f'--seed={self.seed}',
        f'--steps={_NUM_BASE_STEPS.value}',
    ])

  def serve(self) -> List[str]:
    return [_PYTHON.value, str(_EXAMPLE / 'server.py'), self.path('base')]


def main(argv: Sequence[str]) -> None:
  """Runs everything that is missing, then writes `results.json`."""
  del argv
  served_policies.run(JaxSeed)


if __name__ == '__main__':
  app.run(main)
