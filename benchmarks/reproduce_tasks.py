"""Tasks of `reproduce`: gin files, data and the paper's scores."""

import os
import shutil
from typing import Dict, NamedTuple, Optional, Tuple
import urllib.request

_D4RL = 'http://rail.eecs.berkeley.edu/datasets/offline_rl/'
_TIMEOUT_SECONDS = 60.0  # Without receiving data.


class Task(NamedTuple):
  """A task of the paper.

  Attributes:
    experiment: File in gin/experiments, which has a variant `_small`.
    bindings: Bindings that select the task among those of the file.
    url: URL of the data; None if no suitable data is available.
    needs_file: Whether the task needs a data file; otherwise it records its
      own.
    paper: PA-RL's scores, offline and after 1,000 online episodes, in Mark et
      al. (2024), arXiv:2412.06685; None if the paper has none.
    remark: Difference from the paper's task, regardless of sizes.
  """

  experiment: str
  bindings: Tuple[str, ...] = ()
  url: Optional[str] = None
  needs_file: bool = True
  paper: Optional[Tuple[int, int]] = None
  remark: str = ''


def _ant_maze(size: str, paper: Optional[Tuple[int, int]] = None) -> Task:
  # Episode lengths of D4RL.
  max_steps = 700 if size == 'UMaze' else 1_000
  return Task(
      'antmaze',
      (f"AntMaze.size = '{size}'", f'AntMaze.max_episode_steps = {max_steps}'),
      paper=paper,
      remark=(
          "Maze and ant are those of gymnasium-robotics. D4RL's mazes are their"
          ' mirror image, and its ant has other motors and steps of 0.1 s, so'
          ' its data does not fit. Scores from other data are not comparable.'
      ),
  )


def _kitchen(name: str, file: str, paper: Tuple[int, int]) -> Task:
  binding = f"Kitchen.task = '{name}'"
  return Task('kitchen', (binding,), f'{_D4RL}kitchen/{file}', paper=paper)


TASKS: Dict[str, Task] = {
    'antmaze-umaze': _ant_maze('UMaze'),
    'antmaze-medium-play': _ant_maze('Medium', (88, 98)),
    'antmaze-medium-diverse': _ant_maze('Medium', (88, 98)),
    'antmaze-large-play': _ant_maze('Large', (87, 97)),
    'antmaze-large-diverse': _ant_maze('Large', (73, 95)),
    'kitchen-complete': _kitchen(
        'complete', 'mini_kitchen_microwave_kettle_light_slider-v0.hdf5',
        (60, 90),
    ),
    'kitchen-mixed': _kitchen(
        'mixed', 'kitchen_microwave_kettle_bottomburner_light-v0.hdf5', (67, 77)
    ),
    'kitchen-partial': _kitchen(
        'partial', 'kitchen_microwave_kettle_light_slider-v0.hdf5', (78, 93)
    ),
    'adroit-door': Task(
        'adroit_door', url=f'{_D4RL}hand_dapg_v1/door-human-v1.hdf5'
    ),
    'calvin': Task(
        'calvin',
        paper=(27, 61),
        remark=(
            'Needs a running server of examples/calvin. The paper uses human'
            " play data of CALVIN's task D."
        ),
    ),
    'cube': Task('cube', needs_file=False),
}
"""Tasks by name; the paper's scores are read from plots, accurate to 1.5."""


def find_dataset(
    name: str, dataset_path: Optional[str], folder: str
) -> Optional[str]:
  """Returns the task's data file, downloading it if it is missing.

  Args:
    name: Name of a task in `TASKS`.
    dataset_path: Path of the file, if given.
    folder: Directory to search and to download to.

  Returns:
    An absolute path; None if the task records its own data.

  Raises:
    FileNotFoundError: If the file is missing and cannot be downloaded. The
      message names the path to put it at.
  """
  task = TASKS[name]
  if dataset_path is not None:
    if not os.path.exists(dataset_path):
      raise FileNotFoundError(f'`dataset_path`: {dataset_path} does not exist.')
    return os.path.abspath(dataset_path)
  if not task.needs_file:
    return None
  if task.url is None:
    raise FileNotFoundError(
        f'{name} needs --dataset_path, a file recorded in its own domain,'
        f' because none is available for download. {task.remark}'
    )
  path = os.path.abspath(os.path.join(folder, os.path.basename(task.url)))
  if not os.path.exists(path):
    _fetch(task.url, path)
  return path


def _fetch(url: str, path: str) -> None:
  """Downloads a file, which appears at `path` only when it is complete."""
  os.makedirs(os.path.dirname(path), exist_ok=True)
  partial = path + '.partial'
  try:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
      with open(partial, 'wb') as file:
        shutil.copyfileobj(response, file)
      wanted = response.headers['Content-Length']
    num_bytes = os.path.getsize(partial)
    if wanted is not None and int(wanted) != num_bytes:
      raise OSError(f'received {num_bytes} of {wanted} bytes')
  except OSError as error:
    raise FileNotFoundError(
        f'{path} is missing, and {url} could not be downloaded ({error}).'
        ' Download it another way to this path, or pass a file with'
        ' --dataset_path.'
    ) from error
  os.replace(partial, path)
