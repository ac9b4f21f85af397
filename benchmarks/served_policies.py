"""What the programs that improve a served policy have in common.

For each seed, with data of its own:

  base               a clone of a recorded dataset
  base, searched     the same, searched by a critic trained offline
  tuned              fine-tuned by served epochs, alone and searched
  further_data       control: the gradient steps of tuning on the dataset
  self_distillation  control: tuning without a critic (N = 1, T = 0)

What acts alone also acts at temperatures 0.5 and 0.

Rerun a command to resume. `steps.json` of a seed lists all attempts, also
failed ones, with their seconds. `results.json` has the success rates.
`jax_policy`, `torch_policy` and `lerobot_policy` are the programs; `--task`
chooses one of `served_tasks`. With `--initial_root`, another setting of
fine-tuning begins from the data, base and critic of an earlier root directory.
"""

import abc
import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from absl import flags
import numpy as np

from benchmarks import attempts
from benchmarks import relabelled_data
from benchmarks import served_costs
from benchmarks import served_tasks
from parl_tf import synced_file
from parl_tf.binaries import served_controls
from parl_tf.serving import client as client_lib

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of all runs.', required=True
)
_TASK = flags.DEFINE_enum(
    'task', 'point_maze', list(served_tasks.TASKS), 'Task.'
)
_SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2'], 'Seeds.')
_PORT = flags.DEFINE_integer('port', 8130, 'Port of the policy servers.')
_NUM_EPISODES = flags.DEFINE_integer(
    'num_episodes', 100, 'Episodes per evaluation.'
)
_NUM_EPOCHS = flags.DEFINE_integer(
    'num_epochs', None, "Epochs of fine-tuning; None takes the task's."
)
_INITIAL_ROOT = flags.DEFINE_string(
    'initial_root', None,
    'Root directory of earlier runs of these seeds, whose data, base and critic'
    ' are taken over. Base and controls are not scored again.',
)
_TRAINING_SEED = flags.DEFINE_integer(
    'training_seed', None,
    'Seed of fine-tuning, to repeat it with other draws; None takes the own.',
)
_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'Further bindings of all runs of parl-train.'
)

_HINDSIGHT = flags.DEFINE_integer(
    'hindsight', 0,
    'Copies of each episode, also for the control `further_data`, with goals'
    ' that it reached; see `Hindsight`.',
)

_EVALUATION_SEED = 12_345
_START_SECONDS = 120.0


class Seed(abc.ABC):
  """The steps of one seed, each done once.

  Attributes:
    seed: Seed of everything but the evaluations.
    directory: Directory of the seed.
    check_reloaded: Takes the version of the tuned weights and the directory of
      saved versions, checks it in the policy's own framework and returns what
      it found; None checks nothing.
  """

  check_reloaded: Optional[Callable[[str, str], Any]] = None

  def __init__(self, seed: int):
    self.seed = seed
    self._task = served_tasks.TASKS[_TASK.value]
    self._num_epochs = (
        self._task.num_epochs if _NUM_EPOCHS.value is None
        else _NUM_EPOCHS.value
    )
    self.directory = os.path.join(
        os.path.abspath(_ROOT_DIR.value), f'seed_{seed}'
    )
    os.makedirs(self.directory, exist_ok=True)
    attempts.check_settings(self.path('settings.json'))
    self._attempts = attempts.Attempts(self.path('steps.json'), f'seed {seed}')
    self._initial = None
    if _INITIAL_ROOT.value is not None:
      self._initial = os.path.join(
          os.path.abspath(_INITIAL_ROOT.value), f'seed_{seed}'
      )

  @abc.abstractmethod
  def train_base(self) -> None:
    """Clones the dataset `data.hdf5`."""

  @abc.abstractmethod
  def serve(self) -> List[str]:
    """Returns the command that serves the base, without port and directory."""

  def run(self) -> Dict[str, Any]:
    """Does what is missing; returns the results by name."""
    if self._initial is not None:
      return self._run_from(self._initial)
    self._attempts.once('data', self._record)
    self._attempts.once('base', self.train_base)
    with self._server('tuned'):
      self._attempts.once('critic', lambda: self._train('tuned', num_epochs=0))
      self._evaluate_alone('base')
      self._attempts.once('base_searched', lambda: self._evaluate('tuned'))
    self._tune(lambda: self._train('tuned', self._num_epochs))
    with self._server('further_data'):
      self._attempts.once('further_data', self._train_on_data)
    with self._server('further_data', is_last=True):
      self._evaluate_alone('further_data')
    with self._server('self_distillation'):
      self._attempts.once('self_distillation', self._distill)
    with self._server('self_distillation', is_last=True):
      self._evaluate_alone('self_distillation')
    return self._results()

  def _run_from(self, initial: str) -> Dict[str, Any]:
    """Fine-tunes from data, base and offline phase of an earlier directory."""
    for name in 'data.hdf5', 'base':
      if not os.path.exists(self.path(name)):
        os.symlink(os.path.join(initial, name), self.path(name))
    bindings = [
        f'run_experiment.initial_run = {os.path.join(initial, "tuned")!r}',
        "run_experiment.initial_phase = 'offline'",
    ]
    self._tune(lambda: self._train('tuned', self._num_epochs, bindings))
    return self._results()

  def _tune(self, train: Callable[[], Any]) -> None:
    """Fine-tunes the base and scores the result."""
    with self._server('tuned'):
      self._attempts.once('tuned', train)
    with self._server('tuned', is_last=True):
      self._evaluate_alone('tuned')
      self._attempts.once('tuned_searched', lambda: self._evaluate('tuned'))
      if self.check_reloaded is not None:
        self._attempts.once('reloaded', self._check_reloaded)

  def _results(self) -> Dict[str, Any]:
    results = self._attempts.done()
    results['epochs'] = served_costs.of_epochs(self.path('tuned/metrics.csv'))
    return results

  def path(self, name: str) -> str:
    """Returns the path of a file of the seed."""
    return os.path.join(self.directory, name)

  def _record(self) -> None:
    data = self.path('data.hdf5')
    self.call(
        'data', 'generate', self._task.domain, f'--output={data}',
        f'--num_steps={self._task.num_steps}', f'--seed={self.seed}',
        *(f'--gin_bindings={x}' for x in self._task.domain_bindings),
        *(['--play'] if self._task.is_play else []),
    )

  def _train(
      self, name: str, num_epochs: int, bindings: Sequence[str] = ()
  ) -> Dict[str, float]:
    """Runs parl-train; returns the phases of its summary."""
    values = [
        f'RemotePolicy.address = {self.address!r}',
        f'run_experiment.dataset_path = {self.path("data.hdf5")!r}',
        "run_experiment.phase_names = ('offline', 'online')",
        f'ServedOnline.num_epochs = {num_epochs}',
        f'ServedOnline.num_fitted_rows = {self._task.num_fitted_rows}',
        f'ServedOnline.num_fit_steps = {self._task.num_fit_steps}',
        'ServedOnline.refresh_share = 0.2',
        *self._task.bindings,
        f'Hindsight.offline_goals = {_HINDSIGHT.value}',
        f'Hindsight.online_goals = {_HINDSIGHT.value}',
        *_BINDINGS.value,
        *bindings,
    ]
    seed = self.seed if _TRAINING_SEED.value is None else _TRAINING_SEED.value
    self.call(
        'train',
        f'--root_dir={self.path(name)}',
        *(
            f'--gin_file={file}'
            for file in (
                *self._task.gin_files,
                'policies/served.gin',
                'variants/served_online.gin',
            )
        ),
        f'--seed={seed}',
        *(f'--gin_bindings={value}' for value in values),
    )
    with open(
        os.path.join(self.path(name), 'summary.json'), encoding='utf-8'
    ) as file:
      return json.load(file)['phases']

  def _distill(self) -> Dict[str, float]:
    return self._train(
        'self_distillation',
        self._num_epochs,
        served_controls.GIN_BINDINGS,
    )

  def _train_on_data(self) -> float:
    """Takes the gradient steps of fine-tuning on the dataset."""
    episodes = relabelled_data.read(
        self.path('data.hdf5'),
        self._task.evaluation_files,
        self._task.domain_bindings,
        _HINDSIGHT.value,
    )
    states = np.concatenate([x.observation[:-1] for x in episodes])
    actions = np.concatenate([x.action for x in episodes])[:, np.newaxis]
    random = np.random.default_rng(self.seed)
    with client_lib.PolicyClient(self.address) as client:
      version = client.status()['version']
      for epoch in range(self._num_epochs):
        rows = random.integers(len(states), size=self._task.num_fitted_rows)
        training = client.train(
            {'observation': states[rows]},
            actions[rows],
            num_steps=self._task.num_fit_steps,
            seed=epoch,
            version=version,
        )
        version = training.version
      client.save(version)
    return float(np.mean(next(iter(training.losses.values()))))

  def _evaluate_alone(self, name: str) -> None:
    """Scores the served policy at several temperatures."""
    for step, temperature in _alone(name).items():
      self._attempts.once(
          step, functools.partial(self._evaluate, temperature=temperature)
      )

  def _evaluate(
      self, run: str = '', temperature: float = 1.0
  ) -> Dict[str, Any]:
    """Scores the served policy, searched by the critic of a run if given."""
    arguments = [
        *(f'--gin_file={x}' for x in self._task.evaluation_files),
        *(f'--gin_bindings={x}' for x in self._task.domain_bindings),
    ]
    arguments.append(f'--temperature={temperature}')
    if run:  # Its search has a temperature of its own.
      arguments = [f'--root_dir={self.path(run)}']
    output = self.call(
        'evaluate',
        f'--policy=ws://{self.address}',
        *arguments,
        f'--num_episodes={_NUM_EPISODES.value}',
        f'--seed={_EVALUATION_SEED}',
        '--json',
    )
    found = json.loads(output.splitlines()[-1])
    kept = ('success_rate', 'success_interval', 'steps_to_success')
    return {name: found[name] for name in kept}

  def _check_reloaded(self) -> Any:
    with client_lib.PolicyClient(self.address) as client:
      version = client.status()['version']
    return self.check_reloaded(version, self._versions('tuned'))

  @contextlib.contextmanager
  def _server(self, name: str, is_last: bool = False) -> Iterator[None]:
    """Serves the base, or the last version that a step has saved."""
    process = None
    pending = [
        step
        for step in _STEPS[name, is_last]
        if not self._attempts.is_done(step)
        and (self._initial is None or step in _STEPS_OF_TUNING)
        and (step != 'reloaded' or self.check_reloaded is not None)
    ]
    if not pending:
      yield
      return
    with socket.socket() as probe:
      if not probe.connect_ex(('127.0.0.1', _PORT.value)):
        raise OSError(f'Another program has port {_PORT.value}; see --port.')
    with open(self.path('server.log'), 'a', encoding='utf-8') as log:
      process = subprocess.Popen(
          [
              *self.serve(),
              f'--directory={self._versions(name)}',
              f'--port={_PORT.value}',
              f'--learning_rate={self._task.learning_rate}',
          ],
          stdout=log, stderr=log, env=_environment(),
      )
    try:
      with client_lib.PolicyClient(
          self.address, patience_seconds=_START_SECONDS
      ) as client:
        if is_last:
          client.load(client.status()['saved'][-1])
      yield
    finally:
      process.terminate()
      process.wait()

  def _versions(self, name: str) -> str:
    return self.path(f'{name}_versions')

  @property
  def address(self) -> str:
    """`host:port` of the policy's server."""
    return f'127.0.0.1:{_PORT.value}'

  def call(self, program: str, *arguments: str) -> str:
    """Runs a program of ours; returns its standard output."""
    return self.run_command(
        program, [sys.executable, '-m', f'parl_tf.binaries.{program}',
                  *arguments]
    )

  def run_command(self, name: str, command: Sequence[str]) -> str:
    """Runs a command; returns its standard output.

    Args:
      name: Name of its log.
      command: The command.
    """
    with open(self.path(f'{name}.log'), 'a', encoding='utf-8') as log:
      done = subprocess.run(
          command, stdout=subprocess.PIPE, stderr=log, env=_environment(),
          text=True, check=True,
      )
      log.write(done.stdout)
    return done.stdout


def _alone(name: str) -> Dict[str, float]:
  """Returns temperatures by the step that evaluates a policy at them."""
  return {f'{name}_alone': 1.0, f'{name}_at_0.5': 0.5, f'{name}_at_0': 0.0}


# The steps that need each server.
_STEPS = {
    ('tuned', False): ('critic', *_alone('base'), 'base_searched', 'tuned'),
    ('tuned', True): (*_alone('tuned'), 'tuned_searched', 'reloaded'),
    ('further_data', False): ('further_data',),
    ('further_data', True): _alone('further_data'),
    ('self_distillation', False): ('self_distillation',),
    ('self_distillation', True): _alone('self_distillation'),
}

_STEPS_OF_TUNING = ('tuned', *_STEPS['tuned', True])


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


def run(make_seed: Callable[[int], Seed]) -> None:
  """Runs everything that is missing, then writes `results.json`."""
  results = {int(seed): make_seed(int(seed)).run() for seed in _SEEDS.value}
  path = os.path.join(_ROOT_DIR.value, 'results.json')
  with synced_file.write(path) as file:
    file.write(json.dumps(results, indent=1).encode())
  for seed, steps in results.items():
    print(seed, 'epochs', steps['epochs'])
    for name, step in steps.items():
      if isinstance(step.get('result'), dict) and 'success_rate' in step[
          'result'
      ]:
        print(seed, name, step['result']['success_rate'])
