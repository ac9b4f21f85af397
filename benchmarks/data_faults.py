"""Shows what `parl-data info` reports for each kind of invalid dataset.

  python -m benchmarks.data_faults

Prints one row per fault: format, message and exit status of the command. A
second table has mistakes that look like valid data, and what the command warns
of. Exits with 1 if the command misses one of them. docs/data.md contains both.
"""

import functools
import os
import subprocess
import sys
import tempfile
from typing import Callable, Mapping, NamedTuple, Sequence

from absl import app
import h5py
import numpy as np

from parl_tf.datasets import d4rl
from parl_tf.datasets import lerobot
from parl_tf.datasets import robomimic
from tests.datasets import d4rl_columns
from tests.datasets import lerobot_files

_NUM_ROWS = 7  # In `d4rl_columns`: three episodes of 3, 2 and 2 steps.
_MESSAGE = '  FAULT       '
_WARNING = '  WARNING     '


class Fault(NamedTuple):
  """A kind of invalid dataset.

  Attributes:
    name: Description of the fault.
    format: Format of the dataset.
    write: Writes the dataset to a path.
    arguments: Arguments of the command, except the path.
  """

  name: str
  format: str
  write: Callable[[str], None]
  arguments: Sequence[str] = ()


def _change(**changes) -> Callable[[str], None]:
  """Returns a writer of D4RL files with changed columns; None removes one."""
  return lambda path: d4rl_columns.write(path, d4rl_columns.make(**changes))


def _put(column: str, row: int, value: float) -> Callable[[str], None]:
  """Returns a writer of D4RL files with one changed value."""

  def write(path):
    columns = d4rl_columns.make()
    columns[column][row] = value
    d4rl_columns.write(path, columns)

  return write


def _write_wrong_successors(path: str) -> None:
  columns = d4rl_columns.make()
  columns['next_observations'] = columns['observations']
  d4rl_columns.write(path, columns)


def _write_no_rows(path: str) -> None:
  columns = d4rl_columns.make()
  d4rl_columns.write(path, {name: x[:0] for name, x in columns.items()})


def _write_cut_short(path: str) -> None:
  d4rl_columns.write(path, d4rl_columns.make(('-' * 99 + 't') * 100))
  os.truncate(path, os.path.getsize(path) // 2)


def _write_other_format(path: str) -> None:
  with open(path, 'w', encoding='utf-8') as file:
    file.write('time,reward\n')


def _write_demonstrations(path: str, *, lengths: Sequence[int]) -> None:
  with h5py.File(path, 'w') as file:
    for number, length in enumerate(lengths):
      group = file.create_group(f'data/demo_{number}')
      group.attrs['num_samples'] = length
      group['obs/place'] = np.zeros([length, 2])
      group['actions'] = np.zeros([length, 1])
      group['rewards'] = group['dones'] = np.zeros([length])


def _write_frames(path: str, *, order: Sequence[int]) -> None:
  """Writes LeRobot's layout, with the episodes listed in the given order."""
  episodes = lerobot_files.three_episodes()
  lerobot_files.write(path, 'v2.1', episodes, has_video=False)
  entries = lerobot_files.read_entries(path, 'v2.1')
  lerobot_files.write_entries(path, 'v2.1', [entries[i] for i in order])


_FAULTS = (
    Fault('no such file', '', lambda path: None),
    Fault('another format', '', _write_other_format),
    Fault('truncated file', d4rl.NAME, _write_cut_short),
    Fault('missing column', d4rl.NAME, _change(rewards=None)),
    Fault('wrong dtype', d4rl.NAME,
          _change(actions=np.zeros([_NUM_ROWS, 1], np.int64))),
    Fault('unequal lengths', d4rl.NAME,
          _change(rewards=np.zeros([_NUM_ROWS + 1], np.float32))),
    Fault('no rows', d4rl.NAME, _write_no_rows),
    Fault('observation size differs from the task', d4rl.NAME, _change(),
          ('--domain=pointmaze',)),
    Fault('NaN', d4rl.NAME, _put('observations', 3, np.nan)),
    Fault('actions out of bounds', d4rl.NAME, _put('actions', 2, 1.5)),
    Fault('flags other than 0 and 1', d4rl.NAME,
          _change(terminals=np.array([0, 0, 2, 0, 0, 0, 0]))),
    Fault('terminals that include the timeouts', d4rl.NAME,
          _put('terminals', 4, True)),
    Fault('no episode end', d4rl.NAME,
          lambda path: d4rl_columns.write(path, d4rl_columns.make('-------'))),
    Fault('next observation differs from the next row', d4rl.NAME,
          _write_wrong_successors),
    Fault('rewards outside the declared values', d4rl.NAME,
          _put('rewards', 4, 0.5),
          ('--gin_bindings=dataset.reward_values = (0.0, 1.0)',)),
    Fault('zero-length episode', robomimic.NAME,
          functools.partial(_write_demonstrations, lengths=(3, 0, 2))),
    Fault('unsorted episode ids', lerobot.NAME,
          functools.partial(_write_frames, order=(0, 2, 1))),
)


def _lose_time_outs(columns) -> None:
  del columns['timeouts']


def _clear_time_outs(columns) -> None:
  columns['timeouts'][:] = False


def _call_time_outs_terminal(columns) -> None:
  columns['terminals'] |= columns['timeouts']
  columns['timeouts'][:] = False


def _shuffle_rows(columns) -> None:
  order = np.random.default_rng(0).permutation(len(columns['rewards']))
  for name, values in columns.items():
    columns[name] = values[order]


_MISTAKES = {
    'no `timeouts`': _lose_time_outs,
    'a column of `timeouts` that is never set': _clear_time_outs,
    'every time-out is in `terminals`': _call_time_outs_terminal,
    'rows in random order': _shuffle_rows,
}
"""Changes, by name, of a dataset of the point maze."""


def _run(*arguments: str) -> subprocess.CompletedProcess:
  return subprocess.run(
      [sys.executable, '-m', 'parl_tf.binaries.data', *arguments],
      capture_output=True,
      text=True,
      check=False,
  )


def _messages(printed: str, kind: str, folder: str) -> Sequence[str]:
  """Returns the lines of a kind, with file names for paths."""
  return [
      line.removeprefix(kind).replace(folder + os.sep, '')
      for line in printed.splitlines()
      if line.startswith(kind)
  ]


def warn(name: str, columns: Mapping[str, np.ndarray], folder: str) -> bool:
  """Runs the command on a mistaken dataset and prints a row of the table.

  Args:
    name: Name of the mistake.
    columns: Columns of a valid dataset of the point maze.
    folder: Directory for the dataset.

  Returns:
    Whether the command warned and accepted the dataset.
  """
  path = os.path.join(folder, 'data.hdf5')
  columns = {name: values.copy() for name, values in columns.items()}
  _MISTAKES[name](columns)
  with h5py.File(path, 'w') as file:
    for field, values in columns.items():
      file[field] = values
  done = _run('info', path, '--domain=pointmaze')
  messages = _messages(done.stdout, _WARNING, folder)
  print(f'| {name} | {"<br>".join(messages)} |', flush=True)
  return bool(messages) and done.returncode == 0


def record(folder: str) -> Mapping[str, np.ndarray]:
  """Returns the columns of a recording, without the next observations."""
  path = os.path.join(folder, 'recorded.hdf5')
  done = _run(
      'generate', 'pointmaze', f'--output={path}', '--num_steps=30000',
      '--seed=0',
  )
  done.check_returncode()
  with h5py.File(path) as file:
    return {
        name: file[name][()]
        for name in (
            'observations', 'actions', 'rewards', 'terminals', 'timeouts'
        )
    }


def inform(fault: Fault, folder: str) -> bool:
  """Runs the command on an invalid dataset and prints a row of the table.

  Returns:
    Whether the command reported a fault and failed.
  """
  path = os.path.join(folder, 'data.hdf5')
  fault.write(path)
  done = _run('info', path, *fault.arguments)
  messages = _messages(done.stdout, _MESSAGE, folder)
  print(
      f'| {fault.name} | {fault.format} | {"<br>".join(messages)}'
      f' | {done.returncode} |',
      flush=True,
  )
  if 'Traceback' in done.stderr:
    print(done.stderr, file=sys.stderr)
  return bool(messages) and done.returncode == 1


def main(argv: Sequence[str]) -> int:
  """Returns 0 if every fault was reported."""
  del argv
  print('| fault | format | message | exit status |\n|---|---|---|---|')
  is_good = True
  for fault in _FAULTS:
    with tempfile.TemporaryDirectory() as folder:
      is_good &= inform(fault, folder)
  print('\n| mistake | warning |\n|---|---|')
  with tempfile.TemporaryDirectory() as folder:
    columns = record(folder)
    for name in _MISTAKES:
      is_good &= warn(name, columns, folder)
  return 0 if is_good else 1


if __name__ == '__main__':
  app.run(main)
