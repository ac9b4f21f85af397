"""Tests of the verdicts on the paper's claims."""

import os
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from benchmarks import claims
from parl_tf.reports import run_files
from parl_tf.reports import runs as runs_lib
from tests.binaries import tiny
from tests.reports import run_folders

_evaluated, _logged = run_folders.evaluated, run_folders.logged


def _promised(phase, step, score, value, realised):
  """Returns an evaluation with the critic's value and the actual return."""
  return _evaluated(
      phase, step, score, values__start=value, values__start_realised=realised
  )


class NumbersTest(absltest.TestCase):
  """Tests one run computed by hand. Ten steps take a second."""

  def setUp(self):
    super().setUp()
    rows = [
        _evaluated('behavior_cloning', 100, 10.0),
        _promised('offline', 200, 30.0, -40.0, -50.0),
        _logged('offline', 300),
        _promised('offline', 400, 40.0, -20.0, -45.0),
        _logged('online', 500),
        _evaluated('online', 800, 60.0),
        _evaluated('online', 1_100, 50.0),
        _evaluated('online', 2_300, 90.0),
    ]
    folder = os.path.join(self.create_tempdir().full_path, 'm', 'seed_0')
    self._run = runs_lib.read_run(run_folders.write(folder, rows), 'm')

  def test_scores(self):
    self.assertEqual(claims.online_score(self._run), 90.0)
    # Half of 90 and half of 10.
    self.assertEqual(claims.base_policy_gain(self._run), 40.0)
    # One fall of 10, and a rise of 40.
    self.assertEqual(claims.instability(self._run), 5.0)

  def test_overestimation_uses_the_last_offline_evaluation(self):
    self.assertEqual(claims.overestimation(self._run), 25.0)

  def test_score_of_time(self):
    # The online phase starts at 50 s with the last score before it: 40 for
    # 30 s, 60 for 30 s, 50 for the next two minutes.
    self.assertAlmostEqual(claims.score_of_time(1.0)(self._run), 50.0)
    self.assertAlmostEqual(claims.score_of_time(2.0)(self._run), 50.0)
    self.assertAlmostEqual(
        claims.score_of_time(4.0)(self._run),
        (30 * 40 + 30 * 60 + 120 * 50 + 60 * 90) / 240,
    )

  def test_score_of_time_without_the_score_at_the_start(self):
    folder = os.path.join(self.create_tempdir().full_path, 'm', 'seed_0')
    rows = [_evaluated('online', 800, 60.0), _evaluated('online', 1_100, 50.0)]
    scratch = runs_lib.read_run(run_folders.write(folder, rows), 'm')
    begun = scratch._replace(
        initial_run=run_files.InitialRun('other', 'offline', [], 0, None)
    )
    self.assertTrue(np.isnan(claims.score_of_time(1.0)(begun)))
    self.assertFalse(np.isnan(claims.score_of_time(1.0)(scratch)))
    begun = self._run._replace(initial_run=begun.initial_run)
    self.assertAlmostEqual(claims.score_of_time(1.0)(begun), 50.0)


class VerdictTest(parameterized.TestCase):

  def _runs(self, **scores):
    root = self.create_tempdir().full_path
    run_folders.write_study(root, scores)
    return root, runs_lib.read_runs([root]).runs

  @parameterized.parameters(
      ([90.0, 92.0, 91.0], [10.0, 12.0, 9.0], 'holds', 0.05),
      ([10.0, 12.0, 9.0], [90.0, 92.0, 91.0], 'does not hold', 1.0),
      ([10.0, 90.0, 50.0], [20.0, 80.0, 55.0], 'not resolved', 0.6),
      ([50.0, 60.0], [10.0, 20.0], 'not resolved', 1 / 6),
      ([50.0], [10.0], 'not resolved', 0.5),
  )
  def test_only_the_permutation_test_resolves(
      self, ours, other, verdict, by_chance
  ):
    _, runs = self._runs(parl_cal_ql_diffusion=ours, self_imitation=other)
    (claim,) = [
        x for x in claims.make_claims([1.0]) if x.text == 'self-imitation fails'
    ]
    row = claims.judge(claim, runs)
    self.assertEqual(row['verdict'], verdict)
    self.assertAlmostEqual(row['figure'], np.mean(ours) - np.mean(other))
    self.assertEqual(row['seeds'], f'{len(ours)}, {len(other)}')
    self.assertAlmostEqual(row['by_chance'], by_chance)

  def test_fewer_than_five_seeds_of_one_method_resolve_nothing(self):
    _, runs = self._runs(parl_cal_ql_diffusion=[50.0, 51.0])
    claim = next(x for x in claims.make_claims([1.0]) if x.second is None)
    claim = claim._replace(
        first='parl_cal_ql_diffusion', number=lambda run: 50.0 + run.seed
    )
    row = claims.judge(claim, runs)
    self.assertEqual(row['verdict'], 'not resolved')
    self.assertEqual(row['needed'], 5)

  def test_the_table_names_claims_without_runs(self):
    root, _ = self._runs(parl_cal_ql_diffusion=[50.0, 60.0, 55.0])
    config = os.path.join(root, 'parl_cal_ql_diffusion', 'seed_1', 'config.gin')
    with open(config, 'a', encoding='utf-8') as file:
      file.write('\nCritic.tau = 0.5\n')
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.claims', f'--root_dir={root}'],
        cwd=tiny.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *table, _, missing, _, controls = done.stdout.splitlines()
    self.assertLen(table, 3)
    self.assertIn('distillation moves the base policy', table[2])
    self.assertIn('| 3 | 12.5% | not resolved', table[2])
    self.assertStartsWith(missing, 'No runs for: N = 1 hurts; T > 0 helps;')
    self.assertStartsWith(controls, 'No controls: ')
    self.assertIn(
        'seeds of parl_cal_ql_diffusion in LineWalk differ in Critic.tau.',
        done.stderr,
    )
    self.assertTrue(os.path.exists(os.path.join(root, 'claims.csv')))


if __name__ == '__main__':
  absltest.main()
