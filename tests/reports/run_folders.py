"""Writes small run directories."""

import json
import os
from typing import Any, Mapping, Optional, Sequence, Tuple

COLUMNS = (
    'phase',
    'train_step',
    'env_steps',
    'episodes',
    'wall_seconds',
    'score',
    'success_rate',
    'success_rate_without_search',
    'score_without_search',
    'num_evaluation_episodes',
    'values/mean',
    'values/disagreement',
    'losses/td',
    'values/start',
    'values/start_realised',
    'steps_to_success',
    'mean_return',
)
_CONFIG = """# seed = {seed}
import parl_tf.domains.line_walk

# Parameters for LineWalk:
# ==============================================================================
LineWalk.length = {length}

# Parameters for select_domain:
# ==============================================================================
select_domain.domain = @LineWalk()
"""

Row = Mapping[str, Any]


def evaluated(phase: str, step: int, score: float, **cells: Any) -> Row:
  """Returns a row of `metrics.csv` with an evaluation of ten episodes.

  Args:
    phase: The phase.
    step: Training step; the time in seconds is a tenth of it.
    score: Score with search, 0 to 100; the score without search is half of it.
    **cells: Cells of other columns, with `__` for a slash.
  """
  return {
      **logged(phase, step, **cells),
      'score': score,
      'success_rate': score / 100.0,
      'score_without_search': score / 2.0,
      'success_rate_without_search': score / 200.0,
      'num_evaluation_episodes': 10,
  }


def logged(phase: str, step: int, **cells: Any) -> Row:
  """Returns a row of `metrics.csv` without an evaluation."""
  row = {
      'phase': phase,
      'train_step': step,
      'env_steps': 0,
      'episodes': 0,
      'wall_seconds': step / 10.0,
  }
  row.update({name.replace('__', '/'): x for name, x in cells.items()})
  return row


def write(
    folder: str,
    rows: Sequence[Row],
    *,
    seed: int = 0,
    length: int = 5,
    is_finished: bool = True,
) -> str:
  """Writes a run directory; returns its path.

  Args:
    folder: Directory to write.
    rows: Rows of `metrics.csv`.
    seed: The run's seed.
    length: A setting of the domain.
    is_finished: Whether to write a `summary.json`, derived from the rows.
  """
  os.makedirs(folder, exist_ok=True)
  text = _CONFIG.format(seed=seed, length=length)
  write_text(os.path.join(folder, 'config.gin'), text)
  lines = [[str(row.get(name, '')) for name in COLUMNS] for row in rows]
  text = ''.join(','.join(cells) + '\n' for cells in [COLUMNS, *lines])
  write_text(os.path.join(folder, 'metrics.csv'), text)
  if is_finished:
    summary = {'seed': seed, 'domain': 'LineWalk', 'phases': _phases(rows)}
    write_text(os.path.join(folder, 'summary.json'), json.dumps(summary))
  return folder


def write_study(
    root: str,
    scores: Mapping[str, Sequence[float]],
    length: int = 5,
) -> str:
  """Writes finished runs `root/METHOD/seed_S` with three phases.

  Args:
    root: Directory of the study.
    scores: Last online scores of the seeds, by method. The offline scores are
      half of them.
    length: A setting of the domain.

  Returns:
    `root`.
  """
  for method, finals in scores.items():
    for seed, final in enumerate(finals):
      rows = [
          logged('behavior_cloning', 40),
          {
              **logged('behavior_cloning', 50),
              'score_without_search': 10.0,
              'success_rate_without_search': 0.1,
              'num_evaluation_episodes': 10,
          },
          logged('offline', 60, values__mean=-20.0, losses__td=3.0),
          evaluated(
              'offline', 100, final / 2, values__mean=-15.0, losses__td=1.0
          ),
          evaluated(
              'online', 150, final / 2 + 5, env_steps=40 + seed,
              values__mean=-9.0, values__disagreement=0.5, losses__td=0.4,
          ),
          evaluated(
              'online', 200, final, env_steps=100 + seed,
              values__mean=-6.0, values__disagreement=0.2, losses__td=0.3,
              steps_to_success=20 + 17 * seed, mean_return=-10 - 10 * seed,
          ),
      ]
      write(
          os.path.join(root, method, f'seed_{seed}'),
          rows,
          seed=seed,
          length=length,
      )
  return root


def write_text(path: str, text: str) -> None:
  """Writes a file."""
  with open(path, 'w', encoding='utf-8') as file:
    file.write(text)


def cut(path: str, num_bytes: int) -> None:
  """Removes bytes from the end of a file."""
  with open(path, 'r+b') as file:
    file.truncate(os.path.getsize(path) - num_bytes)


def _phases(rows: Sequence[Row]) -> Mapping[str, Mapping[str, Any]]:
  phases, start = {}, 0
  for phase in dict.fromkeys(row['phase'] for row in rows):
    own = [row for row in rows if row['phase'] == phase]
    score = _last_score(own)
    if score is None:
      continue
    end = own[-1]['train_step']
    phases[phase] = {'score': score, 'train_steps': end - start}
    start = end
  return phases


def _last_score(rows: Sequence[Row]) -> Optional[float]:
  found: Tuple[Any, ...] = tuple(
      row.get('score', row.get('score_without_search')) for row in rows
  )
  found = tuple(score for score in found if score is not None)
  return found[-1] if found else None
