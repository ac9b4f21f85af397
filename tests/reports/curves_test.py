from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.reports import curves
from parl_tf.reports import run_files
from parl_tf.reports import runs
from tests.reports import run_folders


class CurvesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path

  def _runs(self, *all_rows):
    for seed, rows in enumerate(all_rows):
      run_folders.write(f'{self._root}/a/seed_{seed}', rows, seed=seed)
    return runs.read_runs([self._root]).runs

  def test_only_the_mean_is_interpolated_within_the_common_range(self):
    found = curves.score_curve(
        self._runs(
            [
                run_folders.evaluated('offline', 10, 0.0),
                run_folders.evaluated('online', 20, 10.0, env_steps=10),
            ],
            [
                run_folders.evaluated('offline', 10, 0.0),
                run_folders.evaluated('online', 30, 40.0, env_steps=20),
            ],
        ),
        'env_steps',
    )

    np.testing.assert_array_equal(found.x, [0.0, 10.0])  # The second: 20.
    # 10, and half-way from 0 to 40.
    np.testing.assert_array_equal(found.y.value, [0.0, 15.0])
    np.testing.assert_array_equal(found.is_measured, [True, False])
    self.assertEqual(found.num_seeds, 2)
    # Each seed has its own evaluations, to its own end.
    np.testing.assert_array_equal(found.seeds[0], [[0.0, 10.0], [0.0, 10.0]])
    np.testing.assert_array_equal(found.seeds[1], [[0.0, 20.0], [0.0, 40.0]])
    self.assertEqual(found.end, 20.0)

  def test_many_evaluations_of_a_seed_stay_as_they_are(self):
    rows = [
        run_folders.evaluated('online', i, float(i % 7), env_steps=i * i)
        for i in range(1, 101)
    ]
    found = curves.score_curve(self._runs(rows), 'env_steps')
    measured = found.x[found.is_measured]
    np.testing.assert_array_equal(measured, np.square(np.arange(1, 101)))
    np.testing.assert_allclose(
        found.y.value[found.is_measured], np.arange(1, 101) % 7
    )

  def test_last_evaluation_before_the_first_environment_step_counts(self):
    found = curves.score_curve(
        self._runs([
            run_folders.evaluated('offline', 10, 5.0),
            run_folders.evaluated('offline', 20, 7.0),
            run_folders.evaluated('online', 30, 40.0, env_steps=8),
        ]),
        'env_steps',
    )

    np.testing.assert_array_equal(found.x, [0.0, 8.0])
    np.testing.assert_array_equal(found.y.value, [7.0, 40.0])
    self.assertFalse(found.y.has_interval)

  def test_time_continues_through_all_phases(self):
    found = curves.score_curve(
        self._runs([
            run_folders.evaluated('offline', 10, 5.0),
            run_folders.evaluated('offline', 20, 7.0),
        ]),
        'wall_seconds',
    )

    np.testing.assert_array_equal(found.x, [1.0, 2.0])

  @parameterized.named_parameters(
      ('none', [[run_folders.logged('offline', 10)]]),
      ('apart', [
          [run_folders.evaluated('online', 10, 1.0, env_steps=1)],
          [run_folders.evaluated('online', 10, 1.0, env_steps=2)],
      ]),
  )
  def test_without_a_common_evaluation_there_is_no_curve(self, all_rows):
    self.assertIsNone(curves.score_curve(self._runs(*all_rows), 'env_steps'))

  def test_metric_is_averaged_within_bins_from_the_critics_start(self):
    rows = [
        run_folders.logged('behavior_cloning', 1000),
        # Steps 1 to 96 after cloning: two rows per bin of 48.
        *(
            run_folders.logged('offline', 1000 + i, losses__td=float(i))
            for i in range(1, 97)
        ),
    ]

    found = curves.metric_curve(self._runs(rows), 'losses/td')

    np.testing.assert_allclose(found.x, np.arange(48) * 2 + 1)
    np.testing.assert_allclose(found.y.value, np.arange(48) * 2 + 1.5)

  def test_empty_bins_are_interpolated(self):
    rows = [
        run_folders.logged('offline', 0),
        run_folders.logged('offline', 1, losses__td=1.0),
        run_folders.logged('offline', 48, losses__td=48.0),
    ]

    found = curves.metric_curve(self._runs(rows), 'losses/td')

    np.testing.assert_allclose(found.y.value, np.arange(1, 49))

  def test_a_run_that_has_barely_begun_gives_no_curve(self):
    rows = (
        [run_folders.logged('online', 20, losses__td=1.0)],
        [
            run_folders.logged('online', 70, losses__td=1.0),
            run_folders.logged('online', 140, losses__td=1.0),
        ],
    )
    runs = [run for x in rows for run in self._runs(x)]
    self.assertIsNone(curves.metric_curve(runs, 'losses/td'))

  def test_a_column_in_no_run_gives_no_curve(self):
    self.assertIsNone(
        curves.metric_curve(
            self._runs([run_folders.logged('offline', 1)]), 'losses/td'
        )
    )

  def test_online_phase_starts_at_the_end_of_the_offline_phase(self):
    [run] = self._runs([
        run_folders.logged('behavior_cloning', 50),
        run_folders.logged('offline', 60, losses__td=1.0),
        run_folders.logged('offline', 100, losses__td=1.0),
        run_folders.logged('online', 120, losses__td=1.0),
    ])

    self.assertEqual(curves.online_start(run, 'losses/td'), 50.0)
    # As a run that began at the end of this offline phase.
    later = run._replace(
        settings={'Offline.num_steps': '50'},
        initial_run=run_files.InitialRun(
            'a', 'offline', ('behavior_cloning', 'offline'), 100, None
        ),
        metrics=run.metrics._replace(
            phases=run.metrics.phases[3:],
            columns={k: x[3:] for k, x in run.metrics.columns.items()},
            first_train_step=100,
        ),
    )
    self.assertEqual(curves.online_start(later, 'losses/td'), 50.0)
    found = curves.metric_curve([later], 'losses/td')
    self.assertBetween(found.x[0], 50.0, 51.0)
    self.assertBetween(found.x[-1], 69.0, 70.0)
    self.assertIsNone(curves.online_start(run, 'values/mean'))

  def test_rows_before_the_common_start_do_not_count(self):
    def logged(phase, steps, loss):
      return [run_folders.logged(phase, x, losses__td=loss) for x in steps]

    online = logged('online', range(110, 210, 10), 1.0)
    own, taken_over = self._runs(
        [
            run_folders.logged('behavior_cloning', 0),
            *logged('offline', range(10, 110, 10), 100.0),
            *online,
        ],
        online,
    )
    taken_over = taken_over._replace(
        settings={'Offline.num_steps': '100'},
        initial_run=run_files.InitialRun(
            'a', 'offline', ('behavior_cloning', 'offline'), 100, None
        ),
        metrics=taken_over.metrics._replace(first_train_step=100),
    )
    found = curves.metric_curve([own, taken_over], 'losses/td')
    # The row at step 100 is still one of the offline phase.
    self.assertGreater(found.x[1], 102.0)
    np.testing.assert_allclose(found.y.value[4:], 1.0)


if __name__ == '__main__':
  absltest.main()
