"""Improves a diffusion policy of LeRobot on the point maze, where it lives.

  python -m benchmarks.lerobot_point_maze --root_dir runs/lerobot \
      --lerobot_python lerobot_venv/bin/python --seeds 0,1,2

`examples/lerobot_policy` describes the environment of LeRobot. For each seed:

  base               LeRobot's training program on a recorded dataset
  base, searched     the same, searched by a critic trained offline
  tuned              fine-tuned by served epochs, alone and searched
  further_data       control: the gradient steps of tuning on the dataset
  self_distillation  control: tuning without a critic (N = 1, T = 0)

Rerun the same command to resume. `steps.json` of a seed lists all attempts,
also failed ones, with their seconds. `results.json` has the success rates.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Sequence

from absl import app
from absl import flags
import numpy as np

from parl_tf import synced_file
from parl_tf.datasets import reading
from parl_tf.serving import client as client_lib

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of all runs.', required=True
)
_PYTHON = flags.DEFINE_string(
    'lerobot_python', None, "LeRobot's Python interpreter.", required=True
)
_SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2'], 'Seeds.')
_PORT = flags.DEFINE_integer('port', 8130, 'Port of the policy servers.')
_NUM_EPISODES = flags.DEFINE_integer(
    'num_episodes', 100, 'Episodes per evaluation.'
)
_NUM_BASE_STEPS = flags.DEFINE_integer(
    'num_base_steps', 1_500, "Steps of LeRobot's training program."
)
_NUM_EPOCHS = flags.DEFINE_integer('num_epochs', 8, 'Epochs of fine-tuning.')
_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'Further bindings of all runs of parl-train.'
)

_EXAMPLE = pathlib.Path(__file__).parents[1] / 'examples' / 'lerobot_policy'
_NUM_STEPS = 30_000  # environment steps of the dataset
_NUM_FITTED_ROWS = 4_096
_NUM_FIT_STEPS = 200  # gradient steps of an epoch
_LEARNING_RATE = 3e-4
_EVALUATION_SEED = 12_345
_START_SECONDS = 120.0
_POLICY = (
    '--policy.type=diffusion',
    '--policy.n_obs_steps=1',
    '--policy.horizon=2',
    '--policy.n_action_steps=1',
    '--policy.drop_n_last_frames=0',
    '--policy.down_dims=[64]',
    '--policy.kernel_size=3',
    '--policy.diffusion_step_embed_dim=32',
    '--policy.num_train_timesteps=50',
    '--policy.num_inference_steps=5',
    '--policy.noise_scheduler_type=DDIM',
    # With epsilon, a fit of 600 steps misses sharp changes between states.
    '--policy.prediction_type=sample',
    # Without ENV, the policy learns nothing of the state.
    '--policy.normalization_mapping='
    '{"STATE":"MIN_MAX","ENV":"MIN_MAX","ACTION":"MIN_MAX"}',
    '--policy.optimizer_lr=1e-3',
    '--policy.scheduler_warmup_steps=100',
    '--policy.push_to_hub=false',
    '--policy.device=cpu',
    '--batch_size=64',
    '--num_workers=0',
)
_NO_CRITIC = (
    'Search.num_samples = 1',
    'ActionOptimizer.num_candidates = 1',
    'ActionOptimizer.num_gradient_steps = 0',
)


class Seed:
  """The steps of one seed, each done once.

  Attributes:
    directory: Directory of the seed.
  """

  def __init__(self, seed: int):
    """Initializes the steps.

    Args:
      seed: Seed of everything but the evaluations.
    """
    self._seed = seed
    self.directory = os.path.join(
        os.path.abspath(_ROOT_DIR.value), f'seed_{seed}'
    )
    os.makedirs(self.directory, exist_ok=True)

  def run(self) -> Dict[str, Any]:
    """Does what is missing; returns the results by name."""
    self._once('data', self._record)
    self._once('base', self._train_base)
    with self._server('tuned'):
      self._once('critic', lambda: self._train('tuned', num_epochs=0))
      self._once('base_alone', lambda: self._evaluate())
      self._once('base_searched', lambda: self._evaluate('tuned'))
    with self._server('tuned'):
      self._once('tuned', lambda: self._train('tuned', _NUM_EPOCHS.value))
    with self._server('tuned', is_last=True):
      self._once('tuned_alone', lambda: self._evaluate())
      self._once('tuned_searched', lambda: self._evaluate('tuned'))
      self._once('reloaded', self._compare_with_plain_lerobot)
    with self._server('further_data'):
      self._once('further_data', self._train_on_data)
    with self._server('further_data', is_last=True):
      self._once('further_data_alone', lambda: self._evaluate())
    with self._server('self_distillation'):
      self._once('self_distillation', self._distill)
    with self._server('self_distillation', is_last=True):
      self._once('self_distillation_alone', lambda: self._evaluate())
    return {x['step']: x for x in self._attempts() if x['is_done']}

  def _once(self, step: str, function: Callable[[], Any]) -> None:
    """Calls a function unless it has succeeded before; records the attempt."""
    attempts = self._attempts()
    if any(x['step'] == step and x['is_done'] for x in attempts):
      return
    attempt = {'step': step, 'is_done': False, 'seconds': None}
    attempts.append(attempt)
    self._write(attempts)  # A killed attempt is recorded too.
    start = time.monotonic()
    try:
      attempt['result'] = function()
      attempt['is_done'] = True
    finally:
      attempt['seconds'] = time.monotonic() - start
      self._write(attempts)
    print(f'seed {self._seed}: {json.dumps(attempt)}', flush=True)

  def _attempts(self) -> List[Dict[str, Any]]:
    path = self._path('steps.json')
    if not os.path.exists(path):
      return []
    with open(path, encoding='utf-8') as file:
      return json.load(file)

  def _write(self, attempts: Sequence[Dict[str, Any]]) -> None:
    with synced_file.write(self._path('steps.json')) as file:
      file.write(json.dumps(attempts, indent=1).encode())

  def _path(self, name: str) -> str:
    return os.path.join(self.directory, name)

  def _record(self) -> None:
    data = self._path('data.hdf5')
    self._call(
        'data', 'generate', 'pointmaze', f'--output={data}',
        f'--num_steps={_NUM_STEPS}', f'--seed={self._seed}',
        '--gin_bindings=PointMaze.min_start_distance = 7',
    )
    self._call(
        'data', 'convert', data, '--format=lerobot',
        f'--output={self._path("dataset")}', '--instruction=reach the goal',
    )

  def _train_base(self) -> None:
    """Trains the base by LeRobot's program, or resumes it."""
    output = self._path('base')
    last = os.path.join(output, 'checkpoints', 'last', 'pretrained_model')
    arguments = [
        '--dataset.repo_id=local/maze',
        f'--dataset.root={self._path("dataset")}',
        f'--output_dir={output}',
        f'--steps={_NUM_BASE_STEPS.value}',
        '--save_freq=500',
        f'--seed={self._seed}',
        *_POLICY,
    ]
    if os.path.exists(last):
      config = os.path.join(last, 'train_config.json')
      arguments = ['--resume=true', f'--config_path={config}']
    elif os.path.exists(output):
      os.rename(output, f'{output}.{time.time():.0f}')
    self._run(
        'base', [_PYTHON.value, str(_EXAMPLE / 'train.py'), *arguments]
    )

  def _train(
      self, name: str, num_epochs: int, bindings: Sequence[str] = ()
  ) -> Dict[str, float]:
    """Runs parl-train; returns the phases of its summary."""
    values = [
        f'RemotePolicy.address = {self._address()!r}',
        f'run_experiment.dataset_path = {self._path("data.hdf5")!r}',
        "run_experiment.phase_names = ('offline', 'online')",
        'run_experiment.num_evaluation_episodes = 32',
        f'ServedOnline.num_epochs = {num_epochs}',
        f'ServedOnline.num_fitted_rows = {_NUM_FITTED_ROWS}',
        f'ServedOnline.num_fit_steps = {_NUM_FIT_STEPS}',
        'ServedOnline.refresh_share = 0.2',
        *_BINDINGS.value,
        *bindings,
    ]
    self._call(
        'train',
        f'--root_dir={self._path(name)}',
        '--gin_file=quickstart.gin',
        '--gin_file=policies/served.gin',
        '--gin_file=variants/served_online.gin',
        f'--seed={self._seed}',
        *(f'--gin_bindings={value}' for value in values),
    )
    with open(
        os.path.join(self._path(name), 'summary.json'), encoding='utf-8'
    ) as file:
      return json.load(file)['phases']

  def _distill(self) -> Dict[str, float]:
    return self._train(
        'self_distillation',
        _NUM_EPOCHS.value,
        [*_NO_CRITIC, "run_experiment.phase_names = ('online',)"],
    )

  def _train_on_data(self) -> float:
    """Takes the gradient steps of fine-tuning on the dataset."""
    episodes = list(reading.read_episodes(self._path('data.hdf5')))
    states = np.concatenate([x.observation[:-1] for x in episodes])
    actions = np.concatenate([x.action for x in episodes])[:, np.newaxis]
    random = np.random.default_rng(self._seed)
    with client_lib.PolicyClient(self._address()) as client:
      version = client.status()['version']
      for epoch in range(_NUM_EPOCHS.value):
        rows = random.integers(len(states), size=_NUM_FITTED_ROWS)
        training = client.train(
            {'observation': states[rows]},
            actions[rows],
            num_steps=_NUM_FIT_STEPS,
            seed=epoch,
            version=version,
        )
        version = training.version
      client.save(version)
    return float(np.mean(next(iter(training.losses.values()))))

  def _evaluate(self, run: str = '') -> Dict[str, Any]:
    """Scores the served policy, searched by the critic of a run if given."""
    arguments = ['--gin_file=quickstart.gin']
    if run:
      arguments = [f'--root_dir={self._path(run)}']
    output = self._call(
        'evaluate',
        f'--policy=ws://{self._address()}',
        *arguments,
        f'--num_episodes={_NUM_EPISODES.value}',
        f'--seed={_EVALUATION_SEED}',
        '--json',
    )
    found = json.loads(output.splitlines()[-1])
    kept = ('success_rate', 'success_interval', 'steps_to_success')
    return {name: found[name] for name in kept}

  def _compare_with_plain_lerobot(self) -> float:
    """Returns the largest difference to what LeRobot draws by itself."""
    states = np.random.default_rng(0).uniform(-3.0, 3.0, [32, 4])
    states = states.astype(np.float32)
    np.save(self._path('states.npy'), states)
    with client_lib.PolicyClient(self._address()) as client:
      version = client.status()['version']
      served = client.sample({'observation': states}, 1, seed=7).actions
    self._run('plain', [
        _PYTHON.value,
        str(_EXAMPLE / 'plain_lerobot.py'),
        os.path.join(self._versions('tuned'), version),
        self._path('states.npy'),
        self._path('actions.npy'),
        '7',
    ])
    plain = np.load(self._path('actions.npy'))
    return float(np.max(np.abs(plain - served[:, 0])))

  @contextlib.contextmanager
  def _server(self, name: str, is_last: bool = False) -> Iterator[None]:
    """Serves the base, or the last version that a step has saved."""
    process = None
    pending = [x for x in _STEPS[name, is_last] if not self._is_done(x)]
    if not pending:
      yield
      return
    checkpoint = self._path('base/checkpoints/last/pretrained_model')
    with open(self._path('server.log'), 'a', encoding='utf-8') as log:
      process = subprocess.Popen(
          [
              _PYTHON.value, str(_EXAMPLE / 'server.py'), checkpoint,
              f'--directory={self._versions(name)}',
              f'--port={_PORT.value}',
              f'--learning_rate={_LEARNING_RATE}',
          ],
          stdout=log, stderr=log, env=_environment(),
      )
    try:
      with client_lib.PolicyClient(
          self._address(), patience_seconds=_START_SECONDS
      ) as client:
        if is_last:
          client.load(client.status()['saved'][-1])
      yield
    finally:
      process.terminate()
      process.wait()

  def _is_done(self, step: str) -> bool:
    return any(x['step'] == step and x['is_done'] for x in self._attempts())

  def _versions(self, name: str) -> str:
    return self._path(f'{name}_versions')

  def _address(self) -> str:
    return f'127.0.0.1:{_PORT.value}'

  def _call(self, program: str, *arguments: str) -> str:
    """Runs a program of ours; returns its standard output."""
    return self._run(
        program, [sys.executable, '-m', f'parl_tf.binaries.{program}',
                  *arguments]
    )

  def _run(self, name: str, command: Sequence[str]) -> str:
    with open(self._path(f'{name}.log'), 'a', encoding='utf-8') as log:
      done = subprocess.run(
          command, stdout=subprocess.PIPE, stderr=log, env=_environment(),
          text=True, check=True,
      )
      log.write(done.stdout)
    return done.stdout


# The steps that need each server.
_STEPS = {
    ('tuned', False): ('critic', 'base_alone', 'base_searched', 'tuned'),
    ('tuned', True): ('tuned_alone', 'tuned_searched', 'reloaded'),
    ('further_data', False): ('further_data',),
    ('further_data', True): ('further_data_alone',),
    ('self_distillation', False): ('self_distillation',),
    ('self_distillation', True): ('self_distillation_alone',),
}


def _environment() -> Dict[str, str]:
  """Returns an environment in which each process uses one core."""
  return dict(
      os.environ,
      CUDA_VISIBLE_DEVICES='',
      HF_HUB_OFFLINE='1',
      OMP_NUM_THREADS='1',
      TF_CPP_MIN_LOG_LEVEL='3',
      TF_NUM_INTRAOP_THREADS='1',
  )


def main(argv: Sequence[str]) -> None:
  """Runs everything that is missing, then writes `results.json`."""
  del argv
  results = {int(seed): Seed(int(seed)).run() for seed in _SEEDS.value}
  path = os.path.join(_ROOT_DIR.value, 'results.json')
  with synced_file.write(path) as file:
    file.write(json.dumps(results, indent=1).encode())
  for seed, steps in results.items():
    for name, step in steps.items():
      if isinstance(step.get('result'), dict) and 'success_rate' in step[
          'result'
      ]:
        print(seed, name, step['result']['success_rate'])


if __name__ == '__main__':
  app.run(main)
