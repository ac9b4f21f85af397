"""Builds the wheel and the sdist, and runs the quickstart from each of them.

  python -m benchmarks.release --output_dir runs/release

Each file is installed, with the versions of `constraints.txt`, into an empty
virtual environment. `parl-train` then runs in an empty folder, from which no
checkout can be found. Prints the seconds and the results of the run, also those
of each step in `release.csv`. Steps that are done are not repeated.
"""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Dict, List, Sequence

from absl import app
from absl import flags

from parl_tf.reports import run_files

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_LEFT_OUT = shutil.ignore_patterns('.*', 'build', 'runs', '*.egg-info')
_FILES = {'wheel': '*.whl', 'sdist': '*.tar.gz'}


class Steps:
  """Runs commands in turn and keeps their seconds.

  Attributes:
    rows: Name and seconds of each step.
  """

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._path = folder / 'release.csv'
    self.rows: Dict[str, float] = {}
    if self._path.exists():
      with open(self._path, encoding='utf-8', newline='') as file:
        self.rows = {
            row['step']: float(row['seconds']) for row in csv.DictReader(file)
        }

  def run(self, name: str, command: List[str], cwd: pathlib.Path) -> None:
    """Runs a command unless it is done.

    Raises:
      subprocess.CalledProcessError: If it fails; its output is in `NAME.txt`.
    """
    if name in self.rows:
      return
    cwd.mkdir(parents=True, exist_ok=True)
    variables = {
        key: value for key, value in os.environ.items()
        if key not in ('PYTHONPATH', 'VIRTUAL_ENV')
    }
    start = time.monotonic()
    with open(self._folder / f'{name}.txt', 'w', encoding='utf-8') as log:
      subprocess.run(
          command,
          cwd=cwd,
          env=variables,
          stdout=log,
          stderr=subprocess.STDOUT,
          check=True,
      )
    self.rows[name] = time.monotonic() - start
    with open(self._path, 'w', encoding='utf-8', newline='') as file:
      csv.writer(file).writerows([('step', 'seconds'), *self.rows.items()])
    print(f'{name}: {self.rows[name]:.0f} s', flush=True)


def measure(folder: pathlib.Path, bindings: Sequence[str]) -> None:
  """Builds, installs and runs; prints what the runs reached."""
  folder.mkdir(parents=True, exist_ok=True)
  steps = Steps(folder)
  source, dist = folder / 'source', folder / 'dist'
  if not source.exists():  # Without git's ignored files.
    shutil.copytree(_ROOT, source, ignore=_LEFT_OUT)
  builder = folder / 'builder'
  steps.run('builder', [sys.executable, '-m', 'venv', str(builder)], folder)
  python = str(builder / 'bin' / 'python')
  steps.run('pip_build', [python, '-m', 'pip', 'install', 'build'], folder)
  command = [python, '-m', 'build', '--outdir', str(dist), str(source)]
  steps.run('build', command, folder)
  for kind, pattern in _FILES.items():
    (file,) = dist.glob(pattern)
    environment = folder / f'{kind}_environment'
    command = [sys.executable, '-m', 'venv', str(environment)]
    steps.run(f'{kind}_environment', command, folder)
    programs = environment / 'bin'
    steps.run(
        f'{kind}_install',
        [
            *(str(programs / 'python'), '-m', 'pip', 'install'),
            *('-c', str(_ROOT / 'constraints.txt'), str(file)),
        ],
        folder,
    )
    work = folder / f'{kind}_work'
    steps.run(
        f'{kind}_quickstart',
        [
            *(str(programs / 'parl-train'), '--root_dir', 'runs/quickstart'),
            *('--gin_file', 'quickstart.gin'),
            *(f'--gin_bindings={x}' for x in bindings),
        ],
        work,
    )
    path = work / 'runs' / 'quickstart' / run_files.SUMMARY
    summary = json.loads(path.read_text(encoding='utf-8'))
    online = summary['phases']['online']
    print(
        f'{file.name}: success with search {online["success_rate"]:.3f},'
        f' alone {online["success_rate_without_search"]:.3f}'
    )


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  options = flags.FLAGS
  measure(pathlib.Path(options.output_dir).absolute(), options.gin_bindings)


def run() -> None:
  """Defines the flags and runs the command."""
  flags.DEFINE_string(
      'output_dir', None, 'Directory to build, install and run in.',
      required=True,
  )
  flags.DEFINE_multi_string(
      'gin_bindings', [], 'Gin bindings of the quickstart, to shorten it.'
  )
  app.run(main)


if __name__ == '__main__':
  run()
