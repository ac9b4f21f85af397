"""Tests of the episodes of evaluations: their file and their picture."""

import os

from absl.testing import absltest
from matplotlib import image
import numpy as np

from parl_tf.reports import evaluations
from parl_tf.reports import run_files
from parl_tf.reports import start_map
from tests.reports import run_folders

_HEADER = ','.join(run_files.EVALUATION_COLUMNS)


class EvaluationsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root = os.path.join(self.create_tempdir().full_path, 'a', 'seed_0')
    run_folders.write(
        self._root,
        [
            run_folders.evaluated('offline', 10, 50.0),
            run_folders.evaluated('online', 20, 50.0, episodes=11),
        ],
    )

  def _write(self, *lines):
    with open(os.path.join(self._root, 'evaluations.csv'), 'w') as file:
      file.write('\n'.join([_HEADER, *lines]))

  def test_evaluations_of_both_policies_are_read(self):
    self._write(
        '0,offline,10,0,alone,0,0,,-9',
        '0,offline,10,0,alone,1,1,12,-3.5',
        '1,online,20,11,search,0,1,8,-2',
        '1,online,20,11,search,1,1,9,-2',
        '2,online,30,21,search,0,0,,-2',  # Its metrics are not written yet.
        '2,onli',
    )
    first, second = evaluations.read(self._root)
    self.assertEqual(first[:5], (0, 'offline', 10, 0, 'alone'))
    self.assertEqual(first.successes.tolist(), [False, True])
    self.assertEqual(second[:5], (1, 'online', 20, 11, 'search'))
    self.assertEqual(second.successes.tolist(), [True, True])

  def test_a_run_of_an_earlier_version_has_none(self):
    self.assertEqual(evaluations.read(self._root), [])

  def test_a_faulty_line_is_named(self):
    good = '0,offline,10,0,alone,0,0,,-9'
    for bad, wanted in (
        ('0,offline,10,0,alone,1', 'line 3, must be an episode'),
        ('0,offline,10,0,alone,1,1', 'line 3, must be an episode'),
        ('0,offline,10,0,alone,1,x,,-9', 'line 3, .*invalid literal'),
        ('0,offline,10,0,alone,2,1,,-9', 'line 3, .*start 2 instead of 1'),
    ):
      self._write(good, bad, '')
      with self.assertRaisesRegex(ValueError, wanted):
        evaluations.read(self._root)
    with open(os.path.join(self._root, 'evaluations.csv'), 'w') as file:
      file.write('metrics_row\n')
    with self.assertRaisesRegex(ValueError, 'evaluations.csv must have the'):
      evaluations.read(self._root)


def _evaluation(row, policy, successes):
  return evaluations.Evaluation(
      row, 'online', row, 10 * row, policy, np.array(successes, bool)
  )


class StartMapTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._path = os.path.join(self.create_tempdir().full_path, 'a', 'map.png')

  def _colors(self):
    """Returns the share of each pixel color that may be a cell."""
    pixels = np.round(255 * image.imread(self._path)[..., :3]).astype(int)
    return {
        name: np.mean(np.all(pixels == rgb, axis=-1))
        for name, rgb in (
            ('search', (0x00, 0x72, 0xB2)),
            ('alone', (0xD5, 0x5E, 0x00)),
            ('failure', (0xDD, 0xDD, 0xDD)),
        )
    }

  def test_successes_and_failures_of_both_policies_are_drawn(self):
    self.assertTrue(
        start_map.draw(
            self._path,
            [
                _evaluation(0, 'alone', [0, 0, 1, 0]),
                _evaluation(0, 'search', [1, 0, 1, 1]),
                _evaluation(1, 'alone', [0, 0, 1, 1]),
                _evaluation(1, 'search', [1, 1, 1, 1]),
            ],
            title='Walk',
        )
    )
    found = self._colors()
    # 7, 3 and 6 of 16 cells.
    self.assertAlmostEqual(found['search'] / found['alone'], 7 / 3, delta=0.1)
    self.assertAlmostEqual(found['failure'] / found['alone'], 2.0, delta=0.1)

  def test_the_hardest_starts_are_at_the_bottom(self):
    start_map.draw(
        self._path,
        [_evaluation(i, 'alone', [0, 1, 0, 1]) for i in range(3)],
    )
    pixels = np.round(255 * image.imread(self._path)[..., :3]).astype(int)
    # Letters have some gray pixels, too.
    successes, failures = (
        np.flatnonzero(np.all(pixels == rgb, axis=-1).mean(axis=1) > 0.5)
        for rgb in ((0xD5, 0x5E, 0x00), (0xDD, 0xDD, 0xDD))
    )
    self.assertLess(successes.max(), failures.min())

  def test_a_single_evaluation_is_not_drawn(self):
    self.assertFalse(
        start_map.draw(self._path, [_evaluation(0, 'alone', [0, 1])])
    )
    self.assertFalse(start_map.draw(self._path, []))
    self.assertFalse(os.path.exists(self._path))

  def test_a_task_without_success_is_not_drawn(self):
    self.assertFalse(
        start_map.draw(
            self._path, [_evaluation(i, 'alone', [0, 0]) for i in range(2)]
        )
    )
    self.assertFalse(os.path.exists(self._path))


if __name__ == '__main__':
  absltest.main()
