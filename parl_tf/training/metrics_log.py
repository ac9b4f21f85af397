"""The metrics of a run: `metrics.csv` and TensorBoard scalars.

`metrics.csv` is the source of truth. Every row is synced to the disk, and a
checkpoint stores the number of rows. A restart truncates the file to that
number, drops the episodes of later evaluations from `evaluations.csv`, and
makes TensorBoard discard the points of the later rows.
"""

import csv
import errno
import glob
import io
import os
import re
import time
from typing import Mapping, Optional, Sequence, Union

import numpy as np
import tensorflow as tf

from parl_tf import synced_file
from parl_tf.training import evaluation_result
from parl_tf.training import evaluations_file

_COUNTERS = ('phase', 'train_step', 'env_steps', 'episodes', 'wall_seconds')
_METRICS = ('score', 'success_rate')
# Name of a column that a metric adds: parts without commas, quotes or blanks.
_ADDED = re.compile(r'[^\s,"/]+(/[^\s,"/]+)+')
_EVENT_FILE_PREFIX = 'events.out.tfevents.'
_RGB = 3  # TensorBoard's color spaces are their numbers of channels.

Number = Union[int, float, np.number]


def check_name(name: str) -> None:
  """Raises a ValueError unless a metric may have a column of its own."""
  if not _ADDED.fullmatch(name):
    raise ValueError(
        f"Metric {name!r} must have a name of the form 'group/name', such as"
        ' those among the columns of `metrics.csv` in docs/run_directory.md.'
    )


class MetricsLog:
  """Appends rows to `metrics.csv`, and their numbers to TensorBoard.

  The header covers the columns of all phases from the start. A metric of
  another name, such as one of a user's own critic, adds a column if its name
  has the form 'group/name'. A metric that a row lacks is an empty cell. A
  number that is read back as float32 equals the logged value.
  """

  def __init__(
      self,
      root_dir: str,
      metric_names: Sequence[str] = (),
      *,
      resume_rows: Optional[int] = 0,
  ):
    """Opens the log and drops rows after the checkpoint.

    Args:
      root_dir: The run's directory, made if it is missing.
      metric_names: Columns after `phase`, `train_step`, `env_steps`,
        `episodes`, `wall_seconds`, `score` and `success_rate`, which are always
        present (and may be repeated here).
      resume_rows: The number of rows to keep, as stored in the checkpoint; 0
        starts over, None keeps all complete rows.

    Raises:
      ValueError: If the file has fewer complete rows than `resume_rows` or a
        column that no metric adds, or if `resume_rows` is negative. A file of
        an earlier version, which lacks columns, is rewritten with all of them.
    """
    if resume_rows is not None and resume_rows < 0:
      raise ValueError(
          f'`resume_rows` must not be negative, got {resume_rows}.'
      )
    self._columns = tuple(
        dict.fromkeys((*_COUNTERS, *_METRICS, *metric_names))
    )
    self._path = os.path.join(root_dir, 'metrics.csv')
    self._videos = os.path.join(root_dir, 'videos')
    synced_file.make_directory(root_dir)
    if resume_rows is None:
      resume_rows = self._count_rows()
    rows = self._read(resume_rows) if resume_rows else []
    self._replace(rows)
    self._evaluations = evaluations_file.EvaluationsFile(root_dir, len(rows))
    self._num_rows = len(rows)
    self._train_step = int(rows[-1]['train_step']) if rows else 0
    self._wall_seconds = float(rows[-1]['wall_seconds']) if rows else 0.0
    self._file = open(self._path, 'ab', buffering=0)
    self._open_events(rows)

  @property
  def columns(self) -> Sequence[str]:
    """The header of `metrics.csv`."""
    return self._columns

  @property
  def num_rows(self) -> int:
    """The number of complete rows in the file."""
    return self._num_rows

  @property
  def train_step(self) -> int:
    """The training step of the last row; 0 if there are no rows."""
    return self._train_step

  @property
  def wall_seconds(self) -> float:
    """The seconds of the run in the last row; 0 if there are no rows."""
    return self._wall_seconds

  @property
  def path(self) -> str:
    """The path of `metrics.csv`."""
    return self._path

  def write(
      self,
      *,
      phase: str,
      train_step: int,
      env_steps: int,
      episodes: int,
      wall_seconds: float,
      metrics: Optional[Mapping[str, Number]] = None,
      evaluations: Optional[
          Mapping[str, evaluation_result.EvaluationResult]
      ] = None,
  ):
    """Appends a row and flushes it to the disk.

    Args:
      phase: The name of the phase, an identifier.
      train_step: Gradient steps since the run began; must not decrease.
      env_steps: Environment steps collected so far.
      episodes: Episodes collected so far.
      wall_seconds: Seconds of the run, without the time between sessions.
      metrics: Scalars by column name. Values of None are omitted.
      evaluations: What each policy did in the evaluation of this row; see
        `EvaluationsFile.write`.

    Raises:
      ValueError: If a metric has neither a column nor a name that adds one or
        is not a scalar, `train_step` decreases, or `phase` is not an
        identifier.
    """
    self._check_order(phase, train_step)
    numbers = {
        'train_step': int(train_step),
        'env_steps': int(env_steps),
        'episodes': int(episodes),
        'wall_seconds': float(wall_seconds),
        **self._checked(metrics or {}),
    }
    if not numbers.keys() <= set(self._columns):
      self._add_columns(numbers)
    self._add_points(numbers)
    if evaluations:
      # First: a restart drops the episodes of a row that was not written.
      self._evaluations.write(
          self._num_rows,
          phase,
          numbers['train_step'],
          numbers['episodes'],
          evaluations,
      )
    line = _line({'phase': phase, **numbers}, self._columns)
    with synced_file.named_errors(self._path):
      if self._file.write(line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      os.fsync(self._file.fileno())
    self._train_step = numbers['train_step']
    self._wall_seconds = numbers['wall_seconds']
    self._num_rows += 1

  def write_video(self, name: str, train_step: int, gif: bytes) -> None:
    """Writes an animated GIF to `videos`, and shows it in TensorBoard."""
    path = os.path.join(self._videos, f'{name}_{train_step}.gif')
    os.makedirs(self._videos, exist_ok=True)
    with synced_file.write(path) as file:
      file.write(gif)
    self._events.add_image(train_step, name, gif)

  def close(self):
    """Closes both files; the rows are safe even without this call."""
    self._events.close()
    self._evaluations.close()
    self._file.close()

  def __enter__(self):
    return self

  def __exit__(self, *unused_exception):
    self.close()

  def _check_order(self, phase, train_step):
    if not phase.isidentifier():
      raise ValueError(f'`phase` must be an identifier, got {phase!r}.')
    if train_step < self._train_step:
      raise ValueError(
          f'`train_step` must not decrease, got {train_step} after'
          f' {self._train_step}.'
      )

  def _checked(self, metrics):
    numbers = {}
    names = self._columns[len(_COUNTERS):]
    for name, value in metrics.items():
      if name not in names:
        check_name(name)
      if value is None:
        continue
      array = np.asarray(value)
      if array.shape or array.dtype.kind not in 'biuf':
        raise ValueError(
            f'Metric {name!r} must be a scalar number, got shape'
            f' {list(array.shape)} of dtype {array.dtype}.'
        )
      numbers[name] = int(array) if array.dtype.kind in 'biu' else float(array)
    return numbers

  def _count_rows(self):
    """Returns the number of complete rows of the file, 0 if it is missing."""
    if not os.path.exists(self._path):
      return 0
    with open(self._path, 'rb') as file:
      return max(file.read().count(b'\n') - 1, 0)

  def _read(self, num_rows):
    """Returns the first `num_rows` rows of the file."""
    if not os.path.exists(self._path):
      raise ValueError(
          f'{self._path} must have at least {num_rows} rows, but is missing.'
      )
    with open(self._path, 'rb') as file:
      # A kill may leave a partial last line.
      lines = [line.decode() for line in file.read().split(b'\n')[:-1]]
    columns = lines[0].split(',') if lines else []
    added = [x for x in columns if _ADDED.fullmatch(x)]
    if not set(_COUNTERS) <= set(columns) <= {*self._columns, *added}:
      raise ValueError(
          f'{self._path} must have the columns {",".join(self._columns)}, got'
          f' {lines[0] if lines else "none"}.'
      )
    if len(lines) - 1 < num_rows:
      raise ValueError(
          f'{self._path} must have at least {num_rows} complete rows, got'
          f' {len(lines) - 1}.'
      )
    self._columns = tuple(dict.fromkeys((*self._columns, *added)))
    return list(csv.DictReader(lines[: num_rows + 1]))

  def _add_columns(self, names):
    """Adds columns on the right, which are empty in the rows so far."""
    rows = self._read(self._num_rows)
    self._columns = tuple(dict.fromkeys((*self._columns, *names)))
    self._replace(rows)
    self._file.close()
    self._file = open(self._path, 'ab', buffering=0)

  def _replace(self, rows):
    """Atomically replaces the file with the header and `rows`."""
    with synced_file.write(self._path) as file:
      file.write((','.join(self._columns) + '\n').encode())
      for row in rows:
        file.write(_line(row, self._columns))

  def _open_events(self, rows):
    self._events = _EventFile(
        os.path.join(os.path.dirname(self._path), 'tensorboard'),
        self._train_step,
    )
    # Points at the restored step are purged, too; valid ones are rewritten.
    for row in rows:
      if int(row['train_step']) == self._train_step:
        self._add_points({k: float(v) for k, v in _numbers(row).items()})
    ending = f'_{self._train_step}.gif'
    for path in glob.glob(os.path.join(self._videos, '*' + ending)):
      with open(path, 'rb') as file:
        name = os.path.basename(path)[: -len(ending)]
        self._events.add_image(self._train_step, name, file.read())

  def _add_points(self, numbers):
    points = {k: v for k, v in numbers.items() if k != 'train_step'}
    self._events.add(int(numbers['train_step']), points)


class _EventFile:
  """TensorBoard's event file of one session.

  `tf.summary.create_file_writer` has no `purge_step`, so the file is written
  record by record. The first event announces that a session starts at a step.
  TensorBoard then drops the points of earlier files at or after that step.
  """

  def __init__(self, directory: str, start_step: int):
    os.makedirs(directory, exist_ok=True)
    # TensorBoard reads the files in the order of their names.
    earlier = [
        int(name[len(_EVENT_FILE_PREFIX) :].split('.')[0])
        for name in os.listdir(directory)
        if name.startswith(_EVENT_FILE_PREFIX)
    ]
    order = max([int(time.time())] + [seconds + 1 for seconds in earlier])
    self._writer = tf.io.TFRecordWriter(
        os.path.join(directory, f'{_EVENT_FILE_PREFIX}{order:010d}')
    )
    self._write(file_version='brain.Event:2')
    self._write(
        step=start_step,
        session_log=tf.compat.v1.SessionLog(
            status=tf.compat.v1.SessionLog.START
        ),
    )

  def add(self, step: int, points: Mapping[str, Number]):
    summary = tf.compat.v1.Summary()
    for name, value in points.items():
      summary.value.add(tag=name, simple_value=value)
    self._write(step=step, summary=summary)

  def add_image(self, step: int, name: str, encoded: bytes):
    summary = tf.compat.v1.Summary()
    image = tf.compat.v1.Summary.Image(
        encoded_image_string=encoded, colorspace=_RGB
    )
    summary.value.add(tag=name, image=image)
    self._write(step=step, summary=summary)

  def close(self):
    self._writer.close()

  def _write(self, **fields):
    event = tf.compat.v1.Event(wall_time=time.time(), **fields)
    try:
      self._writer.write(event.SerializeToString())
      self._writer.flush()
    except tf.errors.OpError as error:  # Such as a full disk.
      raise OSError(error.message) from error  # Which begins with the path.


def _numbers(row):
  """Returns the cells of `row` that contain numbers."""
  return {k: v for k, v in row.items() if k != 'phase' and v}


def _line(row, columns) -> bytes:
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, restval='', lineterminator='\n')
  # `repr` of a float is the shortest text that parses to the same float64.
  writer.writerow(
      {k: repr(v) if isinstance(v, float) else v for k, v in row.items()}
  )
  return text.getvalue().encode()
