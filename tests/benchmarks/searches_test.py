"""Tests of the comparison of searches."""

import csv
import json
import os
import shutil

from absl.testing import absltest
import gin

from benchmarks import searches
from parl_tf.training import run_directory
from tests.binaries import tiny

Setting = searches.Setting


class SettingsTest(absltest.TestCase):

  def test_ranking_has_no_step_size(self):
    self.assertEqual(
        searches.make_settings([4], [0.5], [8], [0, 2], [0.1, 0.2]),
        [
            Setting(4, 0.5, 1, 0, 0.0),
            Setting(4, 0.5, 4, 2, 0.1),
            Setting(4, 0.5, 4, 2, 0.2),
        ],
    )


class SearchesTest(absltest.TestCase):

  def test_the_runs_search_has_the_runs_result_and_is_measured_once(self):
    self.addCleanup(gin.clear_config)
    run_dir = os.path.join(self.create_tempdir().full_path, 'run')
    ignored = shutil.ignore_patterns('checkpoints', 'policies', 'tensorboard')
    shutil.copytree(tiny.finished_run(), run_dir, ignore=ignored)
    # XLA takes longer to compile the search than the episodes take.
    with open(run_directory.config_path(run_dir), 'a') as file:
      file.write('\nSearch.jit_compile = False\n')
    with open(os.path.join(run_dir, 'summary.json')) as file:
      offline = json.load(file)['phases']['offline']
    settings = [Setting(2, 1.0, 2, 1, 0.1)]

    path = searches.compare(run_dir, 'offline', settings, 4)
    with open(path, newline='') as file:
      (row,) = csv.DictReader(file)

    self.assertEqual(row['limit'], '15')
    self.assertEqual(float(row['success_rate']), offline['success_rate'])
    self.assertAlmostEqual(
        float(row['mean_return']), offline['mean_return'], places=4
    )
    self.assertGreaterEqual(float(row['ascent_gain']), 0.0)
    modified = os.stat(path).st_mtime_ns
    gin.clear_config()
    searches.compare(run_dir, 'offline', settings, 4)
    self.assertEqual(os.stat(path).st_mtime_ns, modified)


if __name__ == '__main__':
  absltest.main()
