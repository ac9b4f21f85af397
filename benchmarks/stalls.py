"""Shows whether failed online episodes end in a stall.

  python -m benchmarks.stalls \
    --runs runs/scene/fast_decay/seed_2,runs/scene/wide_sample/seed_2

A policy stalls if it repeats an action that changes nothing. The printed table
has a row per run and a column per ten online episodes: how many of them failed,
and the median over these of the standard deviation of the last 40 actions,
averaged over the action's elements. A low number means a stall. The first
episode is the warm-up.
"""

import os
from typing import List, Sequence

from absl import app
from absl import flags
import numpy as np

from parl_tf import types
from parl_tf.replay import episode_log

_LAST_STEPS = 40


def deviation(episode: types.Episode) -> float:
  """Returns how much the last actions of an episode differ.

  Args:
    episode: T steps.

  Returns:
    The standard deviation over the last 40 steps, or all if there are fewer, in
    units of the action; the mean over the action's elements.
  """
  return float(np.mean(np.std(episode.action[-_LAST_STEPS:], axis=0)))


def blocks(episodes: Sequence[types.Episode], size: int) -> List[str]:
  """Returns a cell per `size` episodes: the failed ones, and their deviation.

  Args:
    episodes: The online episodes of a run, in order.
    size: Episodes per cell; the last cell may have fewer.
  """
  cells = []
  for start in range(0, len(episodes), size):
    block = episodes[start : start + size]
    failed = [deviation(x) for x in block if not x.success.any()]
    cell = f'{len(failed)} of {len(block)}'
    cells.append(f'{cell}, {np.median(failed):.2f}' if failed else cell)
  return cells


def read_episodes(run_dir: str) -> List[types.Episode]:
  """Returns a run's online episodes, in order.

  Raises:
    ValueError: If the run has none.
  """
  directory = os.path.join(run_dir, 'episodes')
  # The log would make a missing directory.
  if not os.path.isdir(directory) or not os.listdir(directory):
    raise ValueError(f'{directory} must have online episodes.')
  return list(episode_log.EpisodeLog(directory).read())


def main(argv: Sequence[str]) -> None:
  """Prints the table."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  rows = {run: blocks(read_episodes(run), 10) for run in flags.FLAGS.runs}
  width = max(map(len, rows.values()))
  ends = ' | '.join(str(10 * (i + 1)) for i in range(width))
  print(f'| run | {ends} |')
  print('|---|' + '---|' * width)
  for run, cells in rows.items():
    print(f'| {run} | {" | ".join(cells + [""] * (width - len(cells)))} |')


if __name__ == '__main__':
  flags.DEFINE_list('runs', None, 'Directories of the runs.', required=True)
  app.run(main)
