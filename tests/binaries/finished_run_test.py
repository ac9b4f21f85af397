"""Tests of the text that describes a finished run."""

import os

from absl.testing import absltest
from absl.testing import parameterized

from parl_tf.binaries import finished_run
from parl_tf.training import run_directory
from parl_tf.training import run_summary


def _phase(rate, alone):
  return run_summary.PhaseSummary(
      rate,
      alone,
      25.0,
      64,
      18,
      300,
      1.6,
      outcomes=_outcomes(rate),
      outcomes_without_search=_outcomes(alone),
  )


def _outcomes(rate):
  if rate is None:
    return None
  return ('1' * round(64 * rate)).ljust(64, '0')


class SummaryTest(absltest.TestCase):

  def test_policies_of_a_copied_run_are_those_of_the_copy(self):
    root_dir = self.create_tempdir().full_path
    best = run_summary.BestEvaluation(
        21, 12, 0.9, 0.5, 64, -9.0, {'policy': 'old/policies/best/policy'}
    )
    run_summary.write(
        os.path.join(root_dir, 'summary.json'),
        run_summary.RunSummary(
            3, 'PointMaze', 9.4, None, {}, {'policy': 'old/policies/policy'},
            best=best,
        ),
    )
    run_directory.mark_finished(root_dir, 'digest')
    self.assertIsNone(finished_run.summary(root_dir, 'digest'))
    policies = os.path.join(root_dir, 'policies')
    os.makedirs(os.path.join(policies, 'policy'))
    self.assertIsNone(finished_run.summary(root_dir, 'digest'))
    os.makedirs(os.path.join(policies, 'best', 'policy'))

    found = finished_run.summary(root_dir, 'digest')

    self.assertEqual(found.policies, {'policy': f'{policies}/policy'})
    self.assertEqual(found.best.policies, {'policy': f'{policies}/best/policy'})


class DescribeTest(parameterized.TestCase):

  def test_phase_without_search_has_one_rate(self):
    phase = run_summary.PhaseSummary(
        None, 0.25, 25.0, 4, 18, 0, 1.6, steps_to_success_without_search=7.5
    )
    text = finished_run.describe(
        run_summary.RunSummary(
            3, 'PointMaze', 9.4, None, {'offline': phase}, {}, None, 0.125
        ),
        'runs/tiny',
    )
    self.assertEqual(
        text.splitlines(),
        [
            '',
            'PointMaze, seed 3, evaluated over 4 episodes',
            'Success: rate, and mean environment steps to success.',
            '                         success  without search  training steps'
            '  env steps      s',
            '  data                     0.125',
            '  offline                             0.250 in 8              18'
            '          0      2',
            '  start and export                                              '
            '                 8',
            '  total                                                         '
            '                 9',
            '',
            'Learning curve: runs/tiny/report/learning_curve.png',
        ],
    )

  def test_without_any_success_the_returns_are_described(self):
    phases = {
        'behavior_cloning': _phase(None, 0.0)._replace(
            mean_return_without_search=-1204.26
        ),
        'offline': _phase(0.0, None)._replace(mean_return=-700.0),
        'online': _phase(0.0, 0.0)._replace(
            mean_return=-310.0, mean_return_without_search=-420.56
        ),
    }
    summary = run_summary.RunSummary(3, 'Pendulum', 9.4, None, phases, {})
    lines = finished_run.describe(summary, 'runs/tiny').splitlines()
    start = lines.index(
        'No success. Mean undiscounted return, after reward scale and bias.'
    )
    self.assertEqual(
        [line.split() for line in lines[start + 1:start + 5]],
        [
            ['return', 'without', 'search'],
            ['behavior_cloning', '-1204.3'],
            ['offline', '-700.0'],
            ['online', '-310.0', '-420.6'],
        ],
    )
    # Some success, be it of the data, is enough to compare with.
    text = finished_run.describe(
        summary._replace(data_success_rate=0.1), 'runs/tiny'
    )
    self.assertNotIn('No success', text)
    phases['online'] = phases['online']._replace(success_rate=0.1)
    self.assertNotIn('No success', finished_run.describe(summary, 'runs/tiny'))

  def test_a_better_evaluation_than_the_last_is_described(self):
    phase = run_summary.PhaseSummary(0.25, 0.125, 25.0, 64, 18, 300, 1.6)
    best = run_summary.BestEvaluation(
        21, 12, 0.9, 0.5, 64, -9.0, {'policy': 'runs/tiny/policies/best/policy'}
    )
    lines = finished_run.describe(
        run_summary.RunSummary(
            3, 'PointMaze', 9.4, None, {'online': phase},
            {'policy': 'runs/tiny/policies/policy'}, best=best,
        ),
        'runs/tiny',
    ).splitlines()
    self.assertIn(
        '  best online              0.900           0.500              12',
        lines,
    )
    self.assertEqual(
        lines[-4:],
        [
            'Success fell after 21 online episodes; for causes, see'
            ' docs/troubleshooting.md. The policies of that evaluation:',
            'SavedModel: runs/tiny/policies/best/policy',
            'Those of the last step:',
            'SavedModel: runs/tiny/policies/policy',
        ],
    )

  def test_a_fall_is_described_with_what_the_critic_predicted(self):
    root_dir = self.create_tempdir()
    root_dir.create_file(
        'metrics.csv',
        'phase,train_step,env_steps,episodes,wall_seconds,score,success_rate,'
        'values/start,values/start_realised\n'
        'offline,10,0,0,1,,,-12.0,-30.0\n'
        'online,20,50,1,2,,,-35.96,-18.24\n'
        'online,21,60,2,3,,,,\n',
    )
    summary = run_summary.RunSummary(
        3, 'PointMaze', 9.4, None, {'online': _phase(0.25, 0.125)}, {}
    )
    sentence = (
        'The critic valued the start of the last evaluation at -36.0; the'
        ' discounted return within the time limit was -18.2.'
    )
    text = finished_run.describe(summary, root_dir.full_path)
    self.assertNotIn(sentence, text)
    best = run_summary.BestEvaluation(21, 12, 0.9, 0.5, 64, -9.0, {})
    text = finished_run.describe(
        summary._replace(best=best), root_dir.full_path
    )
    self.assertIn(sentence, text)
    root_dir.create_file('metrics.csv', 'no column of these\n')
    with self.assertLogs(level='WARNING'):
      text = finished_run.describe(
          summary._replace(best=best), root_dir.full_path
      )
    self.assertIn('Success fell after 21', text)
    self.assertNotIn('The critic valued', text)

  def test_a_best_policy_that_is_better_alone_is_named(self):
    phase = run_summary.PhaseSummary(0.25, 0.125, 25.0, 64, 18, 300, 1.6)
    base = {'base_policy': 'runs/tiny/policies/best/base_policy'}
    sentence = 'Of these, base_policy succeeded more often.'
    for rates, policies, is_named in (
        ((0.4, 0.8), base, True),
        ((0.8, 0.8), base, False),
        ((0.4, 0.8), {'policy': 'runs/tiny/policies/best/policy'}, False),
    ):
      best = run_summary.BestEvaluation(21, 12, *rates, 64, -9.0, policies)
      text = finished_run.describe(
          run_summary.RunSummary(
              3, 'PointMaze', 9.4, None, {'online': phase}, {}, best=best
          ),
          'runs/tiny',
      )
      self.assertEqual(sentence in text, is_named)

  @parameterized.parameters(
      (0.9, (0.5, 0.4), None, True),
      # Seven and six starts lost, 1 / 128 and 1 / 64, for two policies.
      (0.9, (0.8, 0.4), None, True),
      (0.9, (0.81, 0.4), None, False),
      (0.9, (0.5, 0.85), None, False),
      (0.9, (0.5, 0.4), 0.83, False),
      (0.9, (0.5, 0.4), 0.6, True),
      (None, (0.5, 0.4), None, False),
      (0.9, (None, None), None, False),
      (0.9, None, None, False),
  )
  def test_more_success_after_offline_rl_is_named(
      self, offline, online, best, is_named
  ):
    phases = {'offline': _phase(offline, 0.3)}
    if online is not None:
      phases['online'] = _phase(*online)
    if best is not None:
      best = run_summary.BestEvaluation(
          21, 12, 0.2, best, 64, -9.0, outcomes=_outcomes(best)
      )
    summary = run_summary.RunSummary(
        3, 'PointMaze', 9.4, None, phases, {}, best=best
    )
    text = finished_run.describe(summary, 'runs/tiny')
    self.assertEqual('after offline RL than online' in text, is_named)

  @parameterized.parameters(
      (0.4, 0.9, 'of the policy alone was higher after offline RL than online'),
      (0.4, 0.4, 'of the policy alone was higher after cloning than online'),
  )
  def test_a_clone_that_succeeds_more_is_named(self, rate, alone, wanted):
    root_dir = self.create_tempdir().full_path
    phases = {
        'behavior_cloning': _phase(None, 0.85),
        'offline': _phase(rate, alone),
        'online': _phase(0.4, 0.4),
    }
    for name in phases:
      os.makedirs(os.path.join(root_dir, 'phases', name))
    summary = run_summary.RunSummary(
        3, 'PointMaze', 9.4, None, phases, {'base_policy': 'base_policy'}
    )
    text = finished_run.describe(summary, root_dir)
    self.assertIn(wanted, text)
    self.assertRegex(text, '--checkpoint (offline|beh.*) --policy base_policy')
    self.assertNotIn('as often without search', text)

  def test_the_export_of_an_offline_policy_needs_its_checkpoint(self):
    root_dir = self.create_tempdir().full_path
    command = f'parl-export --root_dir {root_dir} --checkpoint offline'
    summary = run_summary.RunSummary(
        3, 'PointMaze', 9.4, None,
        {'offline': _phase(0.9, 0.3), 'online': _phase(0.5, 0.4)},
        {'policy': 'policies/policy'},
    )
    self.assertNotIn(command, finished_run.describe(summary, root_dir))
    os.makedirs(os.path.join(root_dir, 'phases', 'offline'))
    self.assertIn(command, finished_run.describe(summary, root_dir))
    served = summary._replace(policies={})
    self.assertNotIn(command, finished_run.describe(served, root_dir))

  @parameterized.parameters((0.5, 0.5, True), (0.5, 0.4, False), (0, 0, False))
  def test_a_policy_that_needs_no_search_is_named(self, rate, alone, is_named):
    phase = run_summary.PhaseSummary(rate, alone, 25.0, 64, 18, 300, 1.6)
    path = 'runs/tiny/policies/base_policy'
    text = finished_run.describe(
        run_summary.RunSummary(
            3, 'PointMaze', 9.4, None, {'online': phase}, {'base_policy': path}
        ),
        'runs/tiny',
    )
    last = text.splitlines()[-1]
    self.assertEqual('as often without search' in last, is_named)


if __name__ == '__main__':
  absltest.main()
