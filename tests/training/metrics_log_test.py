import csv
import os
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from tensorboard.backend.event_processing import event_accumulator
import tensorflow as tf

from parl_tf.training import metrics_log

_NAMES = ('success_rate_without_search', 'losses/critic')


def _write(log, train_step, **metrics):
  log.write(
      phase='offline',
      train_step=train_step,
      env_steps=0,
      episodes=0,
      wall_seconds=0.5 * train_step,
      metrics=metrics,
  )


def _rows(directory):
  with open(os.path.join(directory, 'metrics.csv'), newline='') as file:
    return list(csv.DictReader(file))


def _points(directory, tag):
  accumulator = event_accumulator.EventAccumulator(
      os.path.join(directory, 'tensorboard')
  )
  accumulator.Reload()
  return [(event.step, event.value) for event in accumulator.Scalars(tag)]


class MetricsLogTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self._dir = directory.name
    self._csv = os.path.join(self._dir, 'metrics.csv')

  def test_header_covers_all_columns_and_missing_values_are_empty(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      _write(log, 1, **{'losses/critic': 2.5, 'score': None})
    with open(self._csv) as file:
      self.assertEqual(
          file.read(),
          'phase,train_step,env_steps,episodes,wall_seconds,score,success_rate,'
          'success_rate_without_search,losses/critic\n'
          'offline,1,0,0,0.5,,,,2.5\n',
      )

  def test_a_full_disk_is_an_error_of_the_system(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      fault = tf.errors.ResourceExhaustedError(
          None, None, 'tensorboard/x; No space left'
      )
      with (
          mock.patch.object(log._events, '_writer') as writer,
          self.assertRaisesRegex(OSError, 'tensorboard.*No space left'),
      ):
        writer.write.side_effect = fault
        _write(log, 1)
    self.assertEmpty(_rows(self._dir))

  def test_rows_are_in_the_file_at_once(self):
    log = metrics_log.MetricsLog(self._dir, _NAMES)
    for step in range(3):
      _write(log, step)
      self.assertEqual(log.num_rows, step + 1)
      self.assertLen(_rows(self._dir), step + 1)

  def test_a_row_is_synced_before_it_counts(self):
    synced, fsync = [], os.fsync

    def sync(descriptor):
      synced.append((len(_rows(self._dir)), log.num_rows))
      fsync(descriptor)

    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      with mock.patch.object(os, 'fsync', sync):
        _write(log, 1)
    self.assertEqual(synced, [(1, 0)])

  @parameterized.parameters(0.1, 1e-42, 3.4028235e38, 1 / 3, -0.0)
  def test_float32_survives(self, value):
    value = np.float32(value)
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      _write(log, 1, score=value)
    self.assertEqual(np.float32(_rows(self._dir)[0]['score']), value)

  def test_all_number_types_are_accepted(self):
    with metrics_log.MetricsLog(self._dir, ('a', 'b', 'c', 'd')) as log:
      _write(log, 1, a=np.int64(3), b=np.array(0.5), c=True, d=float('nan'))
    row = _rows(self._dir)[0]
    self.assertEqual([row[k] for k in 'abcd'], ['3', '0.5', '1', 'nan'])

  @parameterized.named_parameters(
      ('unknown', {'spread': 1.0}, "'spread' must have .* 'group/name', such"),
      ('line', {'a/b,c': 1.0}, "'a/b,c' must have a name of the form"),
      ('counter', {'env_steps': 1.0}, "'env_steps' must have a name"),
      ('array', {'score': np.zeros([2])}, r'got shape \[2\]'),
      ('text', {'score': 'high'}, 'scalar number'),
  )
  def test_bad_metric_is_an_error_and_writes_nothing(self, metrics, message):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      with self.assertRaisesRegex(ValueError, message):
        _write(log, 1, **metrics)
      self.assertEqual(log.num_rows, 0)
    self.assertEmpty(_rows(self._dir))

  def test_decreasing_train_step_is_an_error(self):
    with metrics_log.MetricsLog(self._dir) as log:
      _write(log, 5)
      _write(log, 5)
      with self.assertRaisesRegex(ValueError, 'got 4 after 5'):
        _write(log, 4)

  def test_resume_truncates_rows_and_continues(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      for step in range(5):
        _write(log, step, score=0.1 * step)
    with open(self._csv) as file:
      whole = file.read()
    with open(self._csv, 'a') as file:
      file.write('offline,5,0,')  # Torn by a kill.
    with metrics_log.MetricsLog(self._dir, _NAMES, resume_rows=3) as log:
      self.assertEqual((log.num_rows, log.wall_seconds), (3, 1.0))
      for step in (3, 4):
        _write(log, step, score=0.1 * step)
    with open(self._csv) as file:
      self.assertEqual(file.read(), whole)
    self.assertEqual(
        os.listdir(self._dir).count('metrics.csv.partial'), 0, 'left behind'
    )

  def test_torn_last_row_does_not_count(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      _write(log, 1)
      _write(log, 2)
    os.truncate(self._csv, os.path.getsize(self._csv) - 1)
    with self.assertRaisesRegex(ValueError, 'at least 2 complete rows, got 1'):
      metrics_log.MetricsLog(self._dir, _NAMES, resume_rows=2)

  def test_resume_without_file_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'is missing'):
      metrics_log.MetricsLog(self._dir, _NAMES, resume_rows=2)

  def test_resume_with_other_columns_is_an_error(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      _write(log, 1)
    with self.assertRaisesRegex(ValueError, 'must have the columns .*extra'):
      metrics_log.MetricsLog(self._dir, ('extra',), resume_rows=1)

  def test_resume_of_a_file_that_lacks_a_column(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      _write(log, 1)
    before = _rows(self._dir)
    names = ('extra', *_NAMES)
    with metrics_log.MetricsLog(self._dir, names, resume_rows=1) as log:
      _write(log, 2, extra=2.0)
    rows = _rows(self._dir)
    self.assertEqual([row.pop('extra') for row in rows], ['', '2.0'])
    self.assertEqual(rows[:1], before)

  def test_a_metric_of_another_name_adds_a_column(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      _write(log, 1, score=0.5)
      _write(log, 2, **{'values/spread': 2.0})
      _write(log, 3, score=1.5)
    rows = _rows(self._dir)
    self.assertEqual([row['values/spread'] for row in rows], ['', '2.0', ''])
    self.assertEqual([row['score'] for row in rows], ['0.5', '', '1.5'])
    # A session that resumes the run keeps the column.
    with metrics_log.MetricsLog(self._dir, _NAMES, resume_rows=2) as log:
      _write(log, 4, **{'losses/critic': 3.0})
    self.assertEqual(_rows(self._dir)[:2], rows[:2])
    self.assertEqual(_rows(self._dir)[2]['losses/critic'], '3.0')
    self.assertEqual(_points(self._dir, 'values/spread'), [(2, 2.0)])

  def test_without_rows_to_keep_the_file_is_rewritten(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      _write(log, 7)
    with metrics_log.MetricsLog(self._dir, ('extra',)) as log:
      _write(log, 1, extra=2.0)
    self.assertEqual([row['extra'] for row in _rows(self._dir)], ['2.0'])
    self.assertEqual(_points(self._dir, 'env_steps'), [(1, 0.0)])

  def test_tensorboard_has_every_number_by_train_step(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      _write(log, 10, score=1.5)
      _write(log, 20)
      _write(log, 30, score=2.5)
      # Read before the log is closed, as a running TensorBoard does.
      self.assertEqual(_points(self._dir, 'score'), [(10, 1.5), (30, 2.5)])
      self.assertEqual(
          _points(self._dir, 'wall_seconds'),
          [(10, 5.0), (20, 10.0), (30, 15.0)],
      )

  def test_resume_purges_later_points_from_tensorboard(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      _write(log, 10, score=1.0)
      _write(log, 20, score=2.0)
      _write(log, 20, success_rate=0.5)
      _write(log, 20, score=3.0)  # The same step, but after the checkpoint.
      _write(log, 30, score=4.0)
    for _ in range(2):
      with metrics_log.MetricsLog(self._dir, _NAMES, resume_rows=3) as log:
        _write(log, 25, score=5.0)
    self.assertEqual(
        _points(self._dir, 'score'), [(10, 1.0), (20, 2.0), (25, 5.0)]
    )
    self.assertEqual(_points(self._dir, 'success_rate'), [(20, 0.5)])

  def test_resume_keeps_the_videos_up_to_the_last_row(self):
    with metrics_log.MetricsLog(self._dir, _NAMES) as log:
      for step in (10, 20, 30):
        log.write_video('evaluation', step, b'GIF89a %d' % step)
        _write(log, step)
    for _ in range(2):
      metrics_log.MetricsLog(self._dir, _NAMES, resume_rows=2).close()
    accumulator = event_accumulator.EventAccumulator(
        os.path.join(self._dir, 'tensorboard'), {'images': 0}
    )
    accumulator.Reload()
    self.assertEqual(
        [
            (video.step, video.encoded_image_string)
            for video in accumulator.Images('evaluation')
        ],
        [(10, b'GIF89a 10'), (20, b'GIF89a 20')],
    )
    with open(os.path.join(self._dir, 'videos', 'evaluation_20.gif')) as file:
      self.assertEqual(file.read(), 'GIF89a 20')


if __name__ == '__main__':
  absltest.main()
