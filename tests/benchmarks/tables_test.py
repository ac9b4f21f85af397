"""Tests that the tables of the results are those of the committed files."""

import csv
import io
import os

from absl.testing import absltest
from absl.testing import parameterized
import pytest

from benchmarks import claims
from benchmarks import methods
from benchmarks import recompute
from benchmarks import tables
from parl_tf.reports import runs as runs_lib

_STUDIES = ('pointmaze', 'cube_cal_ql')


def _row(method, seed, status='finished', folder='', **scores):
  row = dict.fromkeys(methods.COLUMNS, '')
  row.update(
      run=f'{folder}{method}/seed_{seed}', method=method, seed=str(seed),
      status=status, **scores,
  )
  return row


class CommittedTest(parameterized.TestCase):

  def test_pages_have_the_tables_of_the_committed_files(self):
    results, landing = (x.read_text(encoding='utf-8') for x in tables.PAGES)

    for page in (results, landing):
      self.assertEqual(tables.render(page, tables.RESULTS), page)
    for study in _STUDIES:
      self.assertIn(f'<!-- table claims {study} -->', results)
    self.assertIn('<!-- table summary cube_play_task1_seeds ', landing)

  @parameterized.parameters(*_STUDIES)
  def test_rows_have_the_numbers_of_the_runs(self, study):
    folder = os.path.join(tables.RESULTS, study)
    with open(os.path.join(folder, 'results.csv'), encoding='utf-8') as file:
      rows = {row['run']: row for row in csv.DictReader(file)}

    runs = runs_lib.read_runs([folder]).runs

    self.assertLen(runs, len(rows))
    for run in runs:
      row = rows[f'{run.method}/seed_{run.seed}']
      for phase in ('behavior_cloning', 'offline', 'online'):
        result = runs_lib.phase_result(run, phase)
        if result is None or not row[f'{phase}_score']:
          continue
        self.assertAlmostEqual(float(row[f'{phase}_score']), result.score)

  @parameterized.parameters(
      'cube_cal_ql/claims.csv', 'cube_play_limit/drift.csv',
      'cube_play_faster_task1/rivals.csv',
  )
  def test_figures_are_those_of_the_runs(self, name):
    self._compare(os.path.join(tables.RESULTS, name))

  @pytest.mark.full
  def test_all_figures_are_those_of_the_runs(self):
    paths = recompute.paths()
    self.assertNotEmpty(paths)
    for path in paths:
      with self.subTest(path):
        self._compare(path)

  def _compare(self, path):
    rows = recompute.rows_of(path)
    text = io.StringIO()
    writer = csv.DictWriter(text, max((list(row) for row in rows), key=len))
    writer.writeheader()
    writer.writerows(rows)
    text.seek(0)

    with open(path, encoding='utf-8') as file:
      self.assertEqual(list(csv.DictReader(text)), list(csv.DictReader(file)))


class LinesTest(absltest.TestCase):

  def test_scores_show_mean_middle_and_each_seed(self):
    rows = [
        _row('a', seed, online_score=str(score), env_steps='1500')
        for seed, score in enumerate((0.0, 90.0, 98.0, 100.0, 92.0))
    ]
    rows.append(_row('a', 5, status='stopped'))
    rows.append(_row('b', 0, offline_score='3.1', core_minutes='2.25'))

    *_, first, second = tables.score_lines(rows)

    # The middle: 90, 92 and 98.
    self.assertEqual(
        first,
        '| `a` | 5 and 1 unfinished |  |  | 76 (93): 0 90 98 100 92 |  | 1,500'
        ' |  |',
    )
    self.assertEqual(second, '| `b` | 1 |  | 3 |  |  |  | 2.2 |')

  def test_entries_of_different_folders_are_kept_apart(self):
    rows = [
        _row('a', 0, folder='small/', domain='X', online_score='10'),
        _row('a', 0, folder='large/', domain='X', online_score='90'),
        _row('b', 0, status='failed'),  # Before it logged its domain.
    ]

    *_, first, second, third = tables.score_lines(rows)

    self.assertIn('| `large/a` | 1 |', first)
    self.assertIn('| `small/a` | 1 |', second)
    self.assertIn('| `b` | 0 and 1 unfinished |', third)

  def test_quickstart_shows_phases_and_controls(self):
    controls = {'clone_1': '0.02', 'clone_0.5': '0', 'clone_0': '0'}
    rows = [
        {
            **{'offline': offline, 'online': '1', 'online_base': '0.9'},
            **controls,
            'variant': 'cal_ql_diffusion',
            'data': '0.08',
            'self_distillation': '0.01',
        }
        for offline in ('0.4', '0.5')
    ]

    head, _, *lines = tables.quickstart_lines(rows)

    self.assertEqual(
        head, '| success, mean of 2 seeds | with search | alone |'
    )
    self.assertEqual(
        lines,
        [
            '| offline RL | 45 % |  |',
            '| online fine-tuning | 100 % | 90 % |',
            '| control: the data; the clone at temperatures 1, 0.5 and 0 |  |'
            ' 8 %; 2 %, 0 % and 0 % |',
            '| control: self-distillation, the same budget without a critic | '
            ' | 1 % |',
        ],
    )

    rows[0]['variant'] = 'iql_diffusion'
    with self.assertRaisesRegex(ValueError, 'one variant, got .*iql_diff'):
      tables.quickstart_lines(rows)

  def test_claims_without_runs_are_left_out(self):
    row = dict.fromkeys(claims.COLUMNS, '')
    rows = [
        {**row, 'claim': 'one', 'verdict': 'no runs'},
        {
            **row,
            **{'claim': 'two', 'measure': 'score', 'figure': '8.33'},
            **{'low': '-1.0', 'high': '9.0', 'seeds': '5, 3'},
            **{'verdict': 'not resolved', 'by_chance': '0.161', 'needed': '63'},
        },
    ]

    (line,) = tables.claim_lines(rows)[2:]

    self.assertEqual(
        line,
        '| two | score | 8.3 (-1.0 to 9.0) | 5, 3 | 16.1% | not resolved; needs'
        ' about 63 seeds each |',
    )
    rows[1].update(seeds='3', needed='5')
    self.assertIn('about 5 seeds |', tables.claim_lines(rows)[2])


if __name__ == '__main__':
  absltest.main()
