"""Tests of the comparison of one method with the others of a study."""

import csv
import os

from absl.testing import absltest

from benchmarks import rivals
from benchmarks import tables
from parl_tf.reports import run_files
from parl_tf.reports import runs as runs_lib
from tests.reports import run_folders


class RivalsTest(absltest.TestCase):

  def _runs(self, scores, episodes=(10, 20)):
    """Returns one run for each pair of scores of (method, seed)."""
    runs = []
    for (method, seed), of_run in scores.items():
      rows = [
          run_folders.evaluated(
              'online', i, score, episodes=number + 1, env_steps=9 * number,
              steps_to_success=score / 4 or float('nan'),
              mean_return=score / 2 - 50,
          )
          for i, (number, score) in enumerate(zip(episodes, of_run))
      ]
      folder = os.path.join(self.create_tempdir().full_path, f'seed_{seed}')
      path = run_folders.write(folder, rows, seed=seed)
      runs.append(runs_lib.read_run(path, method))
    return runs

  def _table(self, rows):
    """Returns the lines of the table after writing and reading the rows."""
    path = os.path.join(self.create_tempdir().full_path, 'rivals.csv')
    rivals.write(path, rows)
    with open(path, encoding='utf-8') as file:
      return tables.rival_lines(list(csv.DictReader(file)))

  def test_means_seeds_and_probabilities(self):
    runs = self._runs({
        ('ours', 1): (50.0, 80.0),
        ('ours', 0): (40.0, 90.0),
        ('theirs', 0): (60.0, 20.0),
        ('theirs', 1): (60.0, 40.0),
        ('hopeless', 0): (0.0, 0.0),
        ('hopeless', 1): (0.0, 8.0),
        # Not evaluated after 20 episodes.
        ('theirs', 2): (0.0,),
    })

    first, second, third = rivals.compare(runs, 'ours', [10, 20])

    self.assertEqual(
        first,
        {
            'method': 'ours',
            'seeds': 2,
            'runs': 2,
            'search_before': '',
            'search_after_10': '45.000',
            'search_after_20': '85.000',
            'search_of_runs': '90 80',
            'alone_after_10': '22.500',
            'alone_after_20': '42.500',
            'alone_of_runs': '45 40',
            # Eight of 20 steps and nine of 22.5.
            'steps_to_success': '21.3',
            'env_steps_to_80': '180',
            'runs_at_80': 2,
            'mean_return': '-7.500',
        },
    )
    self.assertEqual(second['method'], 'theirs')
    self.assertEqual(second['env_steps_to_80'], '')
    self.assertEqual(second['runs_at_80'], 0)
    self.assertEqual(second['search_of_runs'], '20 40')
    # Of the runs that succeed.
    self.assertEqual(third['steps_to_success'], '2.0')
    # One of six assignments of four runs gives such a lead.
    self.assertEqual(second['search_by_chance'], '16.7')
    self.assertEqual(second['mean_return'], '-35.000')
    self.assertEqual(second['mean_return_by_chance'], '16.7')

  def test_success_before_the_online_phase_needs_no_steps(self):
    offline = [run_folders.evaluated('offline', i, 85.0) for i in range(2)]
    online = [
        run_folders.evaluated(
            'online', 2, 90.0, episodes=11, env_steps=90, mean_return=-1.0
        )
    ]
    root = self.create_tempdir().full_path
    run_folders.write(os.path.join(root, 'offline', 'seed_0'), offline)
    paths = [
        run_folders.write(os.path.join(root, name, 'seed_0'), rows)
        for name, rows in (
            ('whole', [*offline, *online]),
            ('fell', [*offline, run_folders.evaluated('offline', 2, 70.0),
                      *online]),
            ('begun', online),
            ('other_search', online),
            ('scratch', online),
        )
    ]
    runs = []
    for path in paths:
      run = runs_lib.read_run(path, os.path.basename(os.path.dirname(path)))
      if run.method in ('begun', 'other_search'):
        run = run._replace(
            initial_run=run_files.InitialRun(
                'a/offline/seed_0', 'offline', [], 1, None
            )
        )
      if run.method == 'other_search':
        run = run._replace(settings={**run.settings, 'Search.num_samples': '1'})
      runs.append(run)
    self.assertEqual(
        {
            row['method']: (row['search_before'], row['env_steps_to_80'])
            for row in rivals.compare(runs, 'whole', [10])
        },
        {
            'whole': ('85.000', '0'), 'fell': ('70.000', '90'),
            'begun': ('85.000', '0'), 'other_search': ('', '90'),
            'scratch': ('', '90'),
        },
    )

  def test_further_runs_of_a_seed_count_in_the_mean_but_not_in_the_test(self):
    runs = self._runs({('ours', 0): (50.0, 80.0), ('theirs', 0): (0.0, 10.0)})
    runs += self._runs({('ours', 0): (50.0, 90.0)})

    rows = rivals.compare(runs, 'ours', [10, 20])

    self.assertEqual([row['seeds'] for row in rows], [1, 1])
    self.assertEqual([row['runs'] for row in rows], [2, 1])
    self.assertEqual(rows[0]['search_of_runs'], '80 90')
    self.assertEqual(rows[0]['search_after_20'], '85.000')
    # One of two assignments of two seeds.
    self.assertEqual(rows[1]['search_by_chance'], '50.0')
    self.assertIn('| 1 (2 runs) |', self._table(rows)[2])

  def test_means_over_the_episodes_are_compared(self):
    runs = self._runs({
        ('ours', 0): (90.0, 40.0),
        ('ours', 1): (70.0, 40.0),
        # Last rates of 50 and 60 are larger, the means of 30 and 40 are not.
        ('theirs', 0): (10.0, 50.0),
        ('theirs', 1): (20.0, 60.0),
    })

    theirs, ours = rivals.compare(runs, 'ours', [10, 20], average=True)

    self.assertEqual(ours['search_of_runs'], '65 55')
    self.assertEqual(theirs['search_of_runs'], '30 40')
    self.assertEqual(theirs['search_by_chance'], '16.7')

  def test_the_best_method_comes_first_and_runs_without_numbers_do_not_count(
      self,
  ):
    runs = self._runs({
        ('ours', 0): (50.0, 10.0),
        ('theirs', 0): (60.0, 20.0),
        ('theirs', 1): (60.0, float('nan')),
    })

    first, second = rivals.compare(runs, 'ours', [20])

    self.assertEqual((first['method'], first['seeds']), ('theirs', 1))
    self.assertEqual(second['method'], 'ours')

  def test_the_table_has_a_line_for_each_method(self):
    rows = rivals.compare(
        self._runs({('ours', 0): (50.0, 80.0), ('theirs', 0): (0.0, 10.0)}),
        'ours',
        [10, 20],
    )

    self.assertEqual(
        self._table(rows)[2:],
        [
            '| `ours` | 1 |  | 50 / 25 | 80 / 40 | 80 | 40 |  | 20.0 '
            '| 180 | -10.0 |',
            '| `theirs` | 1 |  | 0 / 0 | 10 / 5 | 10 | 5 | 50.0 % / 50.0 % '
            '| 2.5 | - (0 of 1) | -45.0, 50.0 % |',
        ],
    )

  def test_seeds_with_different_settings_are_named(self):
    runs = self._runs({('ours', i): (50.0, 80.0) for i in range(2)})
    runs[1] = runs[1]._replace(settings={**runs[1].settings, 'A.x': '1'})
    with self.assertLogs(level='WARNING') as logs:
      rivals.compare(runs, 'ours', [10])
    self.assertIn('seeds of ours in LineWalk differ in A.x', logs.output[0])

  def test_runs_of_two_domains_are_an_error(self):
    runs = self._runs({('ours', 0): (50.0, 80.0), ('theirs', 0): (1.0, 2.0)})
    runs[1] = runs[1]._replace(domain='Walk')
    with self.assertRaisesRegex(ValueError, "one domain.*'LineWalk', 'Walk'"):
      rivals.compare(runs, 'ours', [10, 20])

  def test_an_unknown_method_is_an_error(self):
    runs = self._runs({('a', 0): (50.0, 80.0)})

    with self.assertRaisesRegex(ValueError, r"`ours`.*\['a'\], got 'b'"):
      rivals.compare(runs, 'b', [10, 20])
    with self.assertRaisesRegex(ValueError, r'after \[30\] online episodes'):
      rivals.compare(runs, 'a', [30])


if __name__ == '__main__':
  absltest.main()
