"""Shows what programs say of mistakes in a served policy.

  python -m benchmarks.policy_faults

Serves broken policies, and prints one row per mistake: the program that met it,
its last line and its exit status. Exits with 1 if a program accepts one of
them. docs/your_policy.md contains the table.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
import threading
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence

from absl import app
import numpy as np

from parl_tf.policies import remote
from parl_tf.serving import policy_spec
from parl_tf.serving import server as server_lib

_SPEC = policy_spec.PolicySpec(
    {'observation': policy_spec.ArraySpec((4,))}, action_size=2
)
_ENVIRONMENT = {
    **os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', 'CUDA_VISIBLE_DEVICES': ''
}
_MAZE = ("PointMaze.size = 'UMaze'", 'PointMaze.min_start_distance = 2',
         'PointMaze.max_episode_steps = 15')
_TRAIN = (
    '--gin_file=quickstart.gin', '--gin_file=policies/served.gin',
    '--gin_file=variants/served_online.gin',
    "--gin_bindings=run_experiment.phase_names = ('offline', 'online')",
    '--gin_bindings=run_experiment.num_recorded_steps = 300',
    '--gin_bindings=run_experiment.num_evaluation_episodes = 2',
    '--gin_bindings=Offline.num_steps = 2',
    '--gin_bindings=Offline.batch_size = 8',
    '--gin_bindings=ServedOnline.num_epochs = 1',
    '--gin_bindings=ServedOnline.episodes_per_epoch = 1',
    '--gin_bindings=ServedOnline.num_fitted_rows = 16',
    '--gin_bindings=ServedOnline.critic_batch_size = 8',
    '--gin_bindings=Search.jit_compile = False',
)


def _sample(observation, num_samples, seed):
  size = len(observation['observation'])
  noise = np.random.default_rng(seed).normal(size=(size, num_samples, 1, 2))
  return np.clip(noise, -1.0, 1.0)


def _save(path):
  np.save(os.path.join(path, 'weights.npy'), np.zeros(1))


_POLICY = server_lib.Policy(
    _sample, lambda *unused_arguments: [0.0], _save, lambda path: None
)


class Fault(NamedTuple):
  """A mistake.

  Attributes:
    name: Description of the mistake.
    policy: Functions that replace those of a policy that works.
    spec: Fields that replace those of its spec.
    trains: Whether `parl-train` meets it, or else `parl-evaluate`.
    bindings: Further gin bindings.
    key: API key of the server.
  """

  name: str
  policy: Mapping[str, Optional[Callable[..., Any]]] = {}
  spec: Mapping[str, Any] = {}
  trains: bool = False
  bindings: Sequence[str] = ()
  key: Optional[str] = None


def _raise_key_error(observation, num_samples, seed):
  return observation['pixels']


_RANDOM = np.random.default_rng()
_FAULTS = (
    Fault('actions without the axes N and T',
          {'sample': lambda *given: _sample(*given)[:, 0, 0]}),
    Fault('NaN', {'sample': lambda *given: np.nan * _sample(*given)}),
    Fault('an error in `sample`', {'sample': _raise_key_error}),
    Fault('another size of actions', spec={'action_size': 3}),
    Fault('other bounds of actions',
          spec={'action_low': np.zeros(2), 'action_high': np.ones(2)}),
    Fault('a chunk that is too short',
          bindings=('build_agent.chunk_length = 4',)),
    Fault('an observation that the task lacks',
          spec={'observation': {'state': policy_spec.ArraySpec((4,))}}),
    Fault('another size of an observation',
          spec={'observation': {'observation': policy_spec.ArraySpec((6,))}}),
    Fault('a missing API key', key='secret'),
    Fault('samples that ignore the seed', {
        'sample': lambda observation, number, seed: _RANDOM.uniform(
            -1, 1, (len(observation['observation']), number, 1, 2))
    }, trains=True),
    Fault('an observation that the task lacks',
          spec={'observation': {'state': policy_spec.ArraySpec((4,))}},
          trains=True),
    Fault('a temperature that the policy lacks', trains=True,
          bindings=('evaluation/Search.temperature = 0.5',)),
    Fault('no `train`', {'train': None}, trains=True),
    Fault('no losses', {'train': lambda *unused_arguments: None}, trains=True),
    Fault('a loss that is NaN', {'train': lambda *unused_arguments: [np.nan]},
          trains=True),
    Fault('a `save` that writes nothing', {'save': lambda path: None},
          trains=True),
)


def meet(fault: Fault, folder: str) -> bool:
  """Runs the program and prints a row of the table.

  Args:
    fault: The mistake.
    folder: Existing directory for files.

  Returns:
    Whether the program refused the policy.
  """
  server = server_lib.PolicyServer(
      _POLICY._replace(**fault.policy),
      dataclasses.replace(_SPEC, **fault.spec),
      port=0,
      api_key=fault.key,
      directory=os.path.join(folder, 'versions'),
  )
  thread = threading.Thread(target=server.run)
  thread.start()
  program = 'train' if fault.trains else 'evaluate'
  arguments = (
      [f'--root_dir={folder}/run', *_TRAIN,
       f"--gin_bindings=RemotePolicy.address = '{server.address}'"]
      if fault.trains
      else [f'--policy=ws://{server.address}', '--num_episodes=1',
            '--gin_file=domains/pointmaze.gin',
            '--gin_bindings=import parl_tf.training.builder']
  )
  try:
    result = subprocess.run(
        [
            sys.executable, '-m', f'parl_tf.binaries.{program}', *arguments,
            *(f'--gin_bindings={x}' for x in (*_MAZE, *fault.bindings)),
        ],
        cwd=folder,
        env={k: v for k, v in _ENVIRONMENT.items() if k != remote.KEY_VARIABLE}
        | {'PYTHONPATH': os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
  finally:
    server.close()
    thread.join()
  lines = result.stderr.strip().splitlines()
  message = lines[-1] if lines else ''
  for seen, name in (
      (server.address, 'HOST:PORT'), (f'{folder}/', ''), (f'{os.getcwd()}/', '')
  ):
    message = message.replace(seen, name)
  print(
      f'| {fault.name} | parl-{program} | {message} | {result.returncode} |',
      flush=True,
  )
  return result.returncode != 0


def main(argv: Sequence[str]) -> None:
  """Prints the table."""
  del argv
  print('| mistake | program | message | status |')
  print('|---|---|---|---|')
  with tempfile.TemporaryDirectory() as root:
    refused = []
    for number, fault in enumerate(_FAULTS):
      folder = os.path.join(root, str(number))
      os.mkdir(folder)
      refused.append(meet(fault, folder))
  if not all(refused):
    sys.exit('A program accepted a policy that it should refuse.')


if __name__ == '__main__':
  app.run(main)
