"""Shows what the programs answer to thirty wrong inputs.

  python -m benchmarks.wrong_inputs
  python -m benchmarks.wrong_inputs --repository ../before --helps=False

Prints one row per input: the command, its last line, exit status, seconds, and
the files that it changed or removed; then the seconds of `--help` of each
program. Exits with 1 if a command raised a traceback or lost a file.
`--repository` runs the programs of another checkout.
"""

import hashlib
import pathlib
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from typing import Dict, NamedTuple

from absl import app
from absl import flags
import h5py
import numpy as np

from tests.binaries import tiny

_REPOSITORY = flags.DEFINE_string(
    'repository', str(tiny.ROOT), 'Checkout whose programs run.'
)
_HELPS = flags.DEFINE_bool('helps', True, 'Whether to time --help.')

_PROGRAMS = (
    'cache', 'collect', 'controls', 'data', 'doctor', 'evaluate', 'export',
    'launch', 'learn', 'report', 'search', 'serve', 'train',
)
_TIMEOUT_SECONDS = 120.0
_EVALUATE = 'parl-evaluate --num_episodes 2 --policy'

_TRAIN = 'parl-train --root_dir new --gin_file'
_QUICKSTART = f'{_TRAIN} quickstart.gin --gin_bindings'
_FETCH = f'{_TRAIN} fetch.gin --gin_file small.gin --gin_bindings'


class _Input(NamedTuple):
  what: str
  command: str


_INPUTS = (
    _Input('misspelt flag', 'parl-train --root_dir new --gin_fil x'),
    _Input('no flag', 'parl-train'),
    _Input('misspelt gin file', f'{_TRAIN} quickstrat.gin'),
    _Input('folder of a gin file', f'{_TRAIN} domain/pointmaze.gin'),
    _Input('misspelt name', f"{_QUICKSTART} 'Ofline.num_steps = 3'"),
    _Input('misspelt parameter', f"{_QUICKSTART} 'Offline.num_step = 3'"),
    _Input(
        'unquoted path',
        f"{_QUICKSTART} 'run_experiment.dataset_path = data/x.hdf5'",
    ),
    _Input('binding without a value', f'{_QUICKSTART} Offline.num_steps'),
    _Input('negative number', f"{_QUICKSTART} 'Offline.num_steps = -3'"),
    _Input('text for a number', f"{_QUICKSTART} 'Offline.num_steps = \"few\"'"),
    _Input('torn gin file', f'{_TRAIN} torn.gin'),
    _Input(
        'root_dir is a file',
        'parl-train --root_dir data.hdf5 --gin_file quickstart.gin',
    ),
    _Input(
        'another configuration',
        "parl-train --root_dir run --gin_file quickstart.gin --gin_bindings"
        " 'Search.num_samples = 7'",
    ),
    _Input(
        'no data, no controller',
        f"{_FETCH} 'run_experiment.num_recorded_steps = 100'",
    ),
    _Input(
        'no such data', f"{_FETCH} 'run_experiment.dataset_path = \"no.hdf5\"'"
    ),
    _Input(
        "another task's data",
        f"{_FETCH} 'run_experiment.dataset_path = \"data.hdf5\"'",
    ),
    _Input('unknown task', f"{_FETCH} 'Gymnasium.id = \"Pendulm-v1\"'"),
    _Input('discrete actions', f"{_FETCH} 'Gymnasium.id = \"CartPole-v1\"'"),
    _Input(
        'module of a task', f"{_FETCH} 'Gymnasium.id = \"no_module:Task-v0\"'"
    ),
    _Input(
        'copies with goals that the task lacks',
        f'{_TRAIN} quickstart.gin --gin_file variants/hindsight.gin',
    ),
    _Input(
        'returns in the wrong order',
        f"{_FETCH} 'Gymnasium.score_returns = (0.0, -50.0)'",
    ),
    _Input('misspelt command', 'parl-data inf data.hdf5'),
    _Input('rewards -1 and 0, no flags', 'parl-data info minus.hdf5'),
    _Input('output exists', 'parl-data convert data.hdf5 --output minus.hdf5'),
    _Input(
        'output is the input',
        'parl-data convert data.hdf5 --output data.hdf5',
    ),
    _Input(
        'output is a directory', 'parl-data convert data.hdf5 --output run'
    ),
    _Input('not a run', 'parl-export --root_dir . --output exported'),
    _Input('export exists', 'parl-export --root_dir run --output kept'),
    _Input(
        'output under a file',
        'parl-export --root_dir run --output data.hdf5/x',
    ),
    _Input('not a SavedModel', f'{_EVALUATE} run --gin_file quickstart.gin'),
    _Input(
        'another task',
        f'{_EVALUATE} run/policies/greedy_policy --gin_file fetch.gin',
    ),
    _Input(
        'a flag without effect',
        f'{_EVALUATE} run/policies/greedy_policy --gin_file quickstart.gin'
        ' --root_dir run',
    ),
    _Input(
        'port in use',
        'parl-serve --policy run/policies/greedy_policy --port PORT',
    ),
    _Input(
        'bindings without effect',
        'parl-serve --policy run/policies/greedy_policy --port PORT'
        " --gin_bindings 'Search.num_samples = 7'",
    ),
)


def main(argv):
  """Prints both tables."""
  del argv
  folder = pathlib.Path(tempfile.mkdtemp())
  _prepare(folder)
  is_bad = False
  print('| input | message | status | seconds | lost |\n|---|---|---|---|---|')
  with socket.create_server(('127.0.0.1', 0)) as server:
    port = str(server.getsockname()[1])
    for what, command in _INPUTS:
      before = _digests(folder)
      done, seconds = _run(shlex.split(command.replace('PORT', port)), folder)
      after = _digests(folder)
      lost = [name for name in before if after.get(name) != before[name]]
      is_bad |= bool(lost) or 'Traceback' in done.stderr
      message = _message(done).replace(port, '<port>').replace('|', '\\|')
      print(
          f'| {what} | {message} | {done.returncode} | {seconds:.1f} |'
          f' {", ".join(lost)} |'
      )
      sys.stdout.flush()
  if _HELPS.value:
    print('\n| program | seconds of `--help` | status |\n|---|---|---|')
    for name in _PROGRAMS:
      done, seconds = _run([f'parl-{name}', '--help'], folder)
      is_bad |= done.returncode != 0
      print(f'| parl-{name} | {seconds:.2f} | {done.returncode} |')
  return int(is_bad)


def _prepare(folder: pathlib.Path) -> None:
  """Writes a finished run, datasets and gin files."""
  run = tiny.Run(str(folder / 'run'), tiny.CHEAP_PARTS)
  run.finish()
  (folder / 'torn.gin').write_text('Offline.num_steps = (3')
  (folder / 'fetch.gin').write_text(
      'import parl_tf.domains.domain\nimport parl_tf.domains.gymnasium\n'
      'select_domain.domain = @Gymnasium()\n'
      "Gymnasium.id = 'gymnasium_robotics:FetchReach-v4'\n"
  )
  (folder / 'small.gin').write_text(
      "include 'methods/parl_cal_ql.gin'\ninclude 'policies/diffusion.gin'\n"
      "include 'sizes/small.gin'\nCritic.distribution_ctor = None\n"
  )
  (folder / 'kept').mkdir()
  (folder / 'kept' / 'notes.txt').write_text('kept')
  for name, rewards in (('data', [0, 0, 0, 1]), ('minus', [-1, 0, -1, 0])):
    with h5py.File(folder / f'{name}.hdf5', 'w') as file:
      file['observations'] = np.zeros([4, 2], np.float32)
      file['actions'] = np.zeros([4, 1], np.float32)
      file['rewards'] = np.asarray(rewards, np.float32)
      file['terminals'] = np.zeros([4], bool)
      file['timeouts'] = np.arange(4) % 2 == 1


def _run(words, folder):
  """Runs a command; returns it completed, and its seconds."""
  module = f'parl_tf.binaries.{words[0].removeprefix("parl-")}'
  started = time.monotonic()
  try:
    done = subprocess.run(
        [sys.executable, '-m', module, *words[1:]],
        cwd=folder,
        env={**tiny.environment(), 'PYTHONPATH': _REPOSITORY.value},
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
  except subprocess.TimeoutExpired:
    done = subprocess.CompletedProcess(words, -1, '', 'went on working')
  return done, time.monotonic() - started


def _message(done) -> str:
  """Returns the line that the user should read, shortened."""
  warnings = [x for x in done.stdout.splitlines() if 'WARNING' in x]
  lines = warnings or (done.stderr + done.stdout).strip().splitlines() or ['']
  number = len(done.stderr.splitlines())
  more = f' (last of {number} lines)' if number > 4 else ''
  message = ' '.join(lines[-1].split())
  return message + more


def _digests(folder: pathlib.Path) -> Dict[str, str]:
  """Returns the digest of each file by its name; locks may change."""
  return {
      str(path.relative_to(folder)): hashlib.sha256(
          path.read_bytes()
      ).hexdigest()
      for path in sorted(folder.rglob('*'))
      if path.is_file() and path.name != 'run.lock' and 'new' not in path.parts
  }


if __name__ == '__main__':
  sys.exit(app.run(main))
