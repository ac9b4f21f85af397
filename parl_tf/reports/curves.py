"""Curves of a method: its seeds, and their mean on a common axis."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from parl_tf.reports import run_files
from parl_tf.reports import runs as runs_lib
from parl_tf.reports import statistics

_MAX_POINTS = 64
_NUM_BINS = 48
# Fewer resamples than for tables suffice for a band of many points.
_NUM_RESAMPLES = 500


class Line(NamedTuple):
  """The values of one seed along an axis.

  Attributes:
    x: `[points]`, increasing.
    y: `[points]` values.
  """

  x: np.ndarray
  y: np.ndarray


class Curve(NamedTuple):
  """The interquartile mean over seeds along an axis.

  Attributes:
    method: The method.
    x: `[points]`, increasing.
    y: `[points]` estimates.
    is_measured: `[points]`, whether every seed has a value of its own there;
      elsewhere values of some seeds are interpolated.
    seeds: The values of each seed, to its own end.
  """

  method: str
  x: np.ndarray
  y: statistics.Estimate
  is_measured: np.ndarray
  seeds: Sequence[Line]

  @property
  def num_seeds(self) -> int:
    """Number of seeds."""
    return len(self.seeds)

  @property
  def end(self) -> float:
    """The largest x of a seed."""
    return max(float(line.x[-1]) for line in self.seeds)

  def in_units_of(self, unit: float) -> 'Curve':
    """Returns the curve with an axis in another unit, given in the old one."""
    lines = [line._replace(x=line.x / unit) for line in self.seeds]
    return self._replace(x=self.x / unit, seeds=lines)


def score_curve(
    runs: Sequence[runs_lib.Run], counter: str
) -> Optional[Curve]:
  """Returns a method's score as a function of a counter.

  Runs are evaluated at different counts, so for the mean each run is
  interpolated linearly between its evaluations. The mean covers only the range
  common to all runs, because it would otherwise change with the set of seeds.

  Args:
    runs: The seeds of one method in one domain.
    counter: 'env_steps' or 'wall_seconds'. Of several evaluations at the same
      count, such as those before the first environment step, the last is used.

  Returns:
    The curve; None if the evaluated runs have no common range.
  """
  lines = [_evaluations(run, counter) for run in runs]
  lines = [(x, y) for x, y in lines if x.size]
  if not lines:
    return None
  start = max(x[0] for x, _ in lines)
  end = min(x[-1] for x, _ in lines)
  if start > end:
    return None
  points, counts = np.unique(
      np.concatenate([x for x, _ in lines]), return_counts=True
  )
  measured = points[counts == len(lines)]
  points = points[(points >= start) & (points <= end)]
  if points.size > _MAX_POINTS:
    points = np.union1d(measured, np.linspace(start, end, _MAX_POINTS))
  values = np.stack([np.interp(points, x, y) for x, y in lines])
  return Curve(
      method=runs[0].method,
      x=points,
      y=_estimate(values),
      is_measured=np.isin(points, measured),
      seeds=[Line(x, y) for x, y in lines],
  )


def metric_curve(
    runs: Sequence[runs_lib.Run], column: str
) -> Optional[Curve]:
  """Returns a logged metric as a function of the critic's training steps.

  Rows are averaged within bins, because each row covers only a few steps. Steps
  are counted from the row before the first one with the metric, because
  behavior cloning trains no critic and its length differs between seeds. If a
  run began after the offline phase of another one, they include that phase.

  Args:
    runs: The seeds of one method in one domain.
    column: Column of `metrics.csv`.

  Returns:
    The curve; None if no run has the column, or the runs have no common range.
  """
  lines = [_logged(run, column) for run in runs]
  lines = [(x, y) for x, y in lines if x.size]
  if not lines:
    return None
  end = min(x[-1] for x, _ in lines)
  if max(x[0] for x, _ in lines) > end:
    return None
  start = max(_offline_steps(run) for run in runs)
  edges = np.linspace(start if start < end else 0.0, end, _NUM_BINS + 1)
  centers = (edges[1:] + edges[:-1]) / 2.0
  values = np.stack([_binned(x, y, edges, centers) for x, y in lines])
  return Curve(
      method=runs[0].method,
      x=centers,
      y=_estimate(values),
      is_measured=np.full(centers.shape, True),
      seeds=[Line(centers, y) for y in values],
  )


def online_start(run: runs_lib.Run, column: str) -> Optional[float]:
  """Returns the start of a run's online phase on the axis of `metric_curve`.

  None if the run has no online phase, or neither logged `column` before it nor
  took over another run's offline phase.
  """
  steps = run.metrics.columns['train_step']
  online = np.flatnonzero(run.metrics.phases == 'online')
  present = np.flatnonzero(np.isfinite(run.metrics.column(column)))
  if not online.size or not present.size:
    return None
  if present[0] >= online[0]:
    return _offline_steps(run) or None
  return float(steps[online[0] - 1] - _origin(run, present[0]))


def _evaluations(
    run: runs_lib.Run, counter: str
) -> Tuple[np.ndarray, np.ndarray]:
  score = runs_lib.scores(run.metrics)
  chosen = np.isfinite(score)
  x, y = run.metrics.columns[counter][chosen], score[chosen]
  is_last = np.append(np.diff(x) > 0, True)[: x.size]
  return x[is_last], y[is_last]


def _logged(run: runs_lib.Run, column: str) -> Tuple[np.ndarray, np.ndarray]:
  steps, values = run.metrics.columns['train_step'], run.metrics.column(column)
  present = np.flatnonzero(np.isfinite(values))
  if not present.size:
    return steps[:0], values[:0]
  origin = _origin(run, present[0])
  return steps[present] - origin, values[present]


def _origin(run: runs_lib.Run, first: int) -> float:
  """Returns the training step at which the critic began; `first` is its row."""
  offline_steps = _offline_steps(run)
  if offline_steps or not first:
    return run.metrics.first_train_step - offline_steps
  return run.metrics.columns['train_step'][first - 1]


def _offline_steps(run: runs_lib.Run) -> float:
  """Returns the steps of an offline phase that the run took over, or 0."""
  initial_run = run.initial_run
  if initial_run is None or 'offline' not in initial_run.skipped_phases:
    return 0.0
  steps = run_files.resolve(
      run.settings.get('Offline.num_steps', '0'), run.settings
  )
  return float(steps)


def _binned(x, y, edges, centers) -> np.ndarray:
  """Returns `[bins]` means; interpolates empty bins linearly."""
  index = np.clip(np.searchsorted(edges, x, side='left') - 1, 0, None)
  inside = (x >= edges[0]) & (index < len(centers))
  if not inside.any():
    return np.interp(centers, x, y)
  counts = np.bincount(index[inside], minlength=len(centers))
  sums = np.bincount(index[inside], y[inside], minlength=len(centers))
  filled = counts > 0
  return np.interp(centers, centers[filled], sums[filled] / counts[filled])


def _estimate(values: np.ndarray) -> statistics.Estimate:
  """Returns `[points]` estimates from the values `[R, points]` of R seeds."""
  scores = values[:, np.newaxis]  # [R, points] -> [R, 1, points]: one domain.
  return statistics.estimate(scores, num_resamples=_NUM_RESAMPLES)


def by_method(
    runs: Sequence[runs_lib.Run], domain: str
) -> List[List[runs_lib.Run]]:
  """Groups the runs in `domain` by method."""
  methods: Dict[str, List[runs_lib.Run]] = {}
  for run in runs:
    if run.domain == domain:
      methods.setdefault(run.method, []).append(run)
  return list(methods.values())
