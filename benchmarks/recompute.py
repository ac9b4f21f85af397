"""Recomputes `drift.csv`, `rivals.csv` and `claims.csv` of committed studies.

  python -m benchmarks.recompute
  python -m benchmarks.tables

After a change to `benchmarks.drift`, `rivals` or `claims`, or to the runs below
`benchmarks/results`. Numbers of episodes are those of the present files.
"""

import functools
import os
from typing import Any, Dict, List, Sequence

from absl import app

from benchmarks import claims
from benchmarks import drift
from benchmarks import markdown
from benchmarks import rivals
from benchmarks import tables
from parl_tf import synced_file
from parl_tf.reports import runs as runs_lib

# Options of `benchmarks.rivals`: `--ours`, `--beside` and `--average`.
_RIVALS = {
    'cube_play_ablations_task2': ('both', (
        'cube_play_faster/both', 'cube_play_seeds/expo', 'cube_play_seeds/dsrl',
        'cube_play_seeds/fql', 'cube_play_seeds/iql', 'cube_play_seeds/rlpd',
    ), False),
    'cube_play_faster': ('both', (
        'cube_play_seeds/parl_iql', 'cube_play_seeds/expo',
        'cube_play_seeds/dsrl', 'cube_play_seeds/no_local',
        'cube_play_seeds/idql',
    ), False),
    'cube_play_faster_task1': ('both', (
        'cube_play_task1/parl_iql', 'cube_play_task1/idql',
        'cube_play_task1/no_local',
    ), False),
    'cube_play_limit': ('fast_critic', (
        'cube_play_faster/both', 'cube_play_seeds/expo', 'cube_play_seeds/dsrl',
        'cube_play_seeds/fql', 'cube_play_seeds/iql', 'cube_play_seeds/rlpd',
        'cube_play_ablations_task2/idql', 'cube_play_ablations_task2/no_local',
    ), False),
    'cube_play_limit_task1': ('fast_critic', (
        'cube_play_task1_seeds/both', 'cube_play_faster_task1/both',
        'cube_play_task1_seeds/expo', 'cube_play_task1_seeds/dsrl',
        'cube_play_task1_seeds/fql', 'cube_play_task1_seeds/iql',
        'cube_play_task1_seeds/rlpd', 'cube_play_task1_seeds/cal_ql',
        'cube_play_ablations/idql', 'cube_play_ablations/no_local',
    ), False),
    'cube_play_seeds': ('parl_iql', (), False),
    'cube_play_task1': ('parl_iql', (), False),
    'cube_play_task1_seeds': ('both', (
        'cube_play_faster_task1/both', 'cube_play_ablations/idql',
        'cube_play_ablations/no_local',
    ), False),
    'cube_play_task3': ('both', (), False),
    'fetch_pick': ('parl_iql', (), False),
    'fetch_push': ('parl_iql', (), False),
    'online_start': ('rank_to_act', (), True),
    'policy_targets': ('policy_targets', ('quickstart_settings',), True),
    'return_floor': ('floor_n_step', (), True),
    'target_noise_quickstart': ('target_noise', ('policy_targets',), True),
}
_CLAIMS = {'cube_play_seeds': 'parl_iql'}  # Option `--ours` of `claims`.
_RIVALS_COLUMN = 'search_after_'
_DRIFT_COLUMN = 'after_'

Rows = List[Dict[str, Any]]


def rows_of(path: str) -> Rows:
  """Computes the rows of a file again, from the runs beside it.

  Args:
    path: Path of a `drift.csv`, `rivals.csv` or `claims.csv` of a study.
  """
  kind = os.path.basename(path)
  study = os.path.basename(os.path.dirname(path))
  runs = _runs(os.path.dirname(path))
  if kind == 'claims.csv':
    # None about minutes: the load of the machines differed.
    made = claims.make_claims([], _CLAIMS.get(study, claims.OURS))
    return [
        {column: row.get(column, '') for column in claims.COLUMNS}
        for row in (claims.judge(x, runs) for x in made)
    ]
  columns = markdown.read_rows(path)[0]
  if kind == 'drift.csv':
    episodes = _episodes(columns, _DRIFT_COLUMN)
    return [row for run in runs for row in drift.measure(run, episodes)]
  ours, beside, average = _RIVALS[study]
  for folder in beside:
    runs = [*runs, *_runs(os.path.join(tables.RESULTS, folder))]
  episodes = _episodes(columns, _RIVALS_COLUMN)
  return rivals.compare(runs, ours, episodes, average)


def paths() -> Sequence[str]:
  """Returns the paths of the files of all committed studies."""
  names = ('claims.csv', 'drift.csv', 'rivals.csv')
  return sorted(
      str(path) for name in names for path in tables.RESULTS.glob(f'*/{name}')
  )


@functools.lru_cache(maxsize=None)
def _runs(folder):
  return runs_lib.read_runs([folder], may_repeat=True).runs


def _episodes(columns, prefix):
  return [int(x[len(prefix) :]) for x in columns if x.startswith(prefix)]


def main(argv: Sequence[str]) -> None:
  """Writes the files."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  for path in paths():
    rows = rows_of(path)
    columns = max((list(row) for row in rows), key=len)
    synced_file.write_csv(path, columns, rows)
    print(path)


if __name__ == '__main__':
  app.run(main)
