"""Tests of a session: bookkeeping, collection and resuming."""

import csv
import os
from unittest import mock

from absl import logging
from absl.testing import absltest
import tensorflow as tf
from tf_agents.agents import tf_agent

from parl_tf import interruption
from parl_tf.domains import pointmaze
from parl_tf.training import evaluation
from parl_tf.training import failed_starts
from parl_tf.training import phase_checkpoint
from tests import eager
from tests.training import small_run


class SessionTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self._dir = self.create_tempdir().full_path
    self._root = os.path.join(self._dir, 'run')

  def _session(self, name='run', **kwargs):
    return small_run.make_session(os.path.join(self._dir, name), **kwargs)

  def _rows(self):
    with open(os.path.join(self._root, 'metrics.csv')) as file:
      return list(csv.DictReader(file))

  def test_restart_resumes_at_the_checkpoint_and_logs_what_it_repeats(self):
    session = self._session()
    session.begin_phase('behavior_cloning')
    session.agent.train_step_counter.assign(2)
    session.write_row({'held_out_loss': 1.5})
    session.state.phase_step = 2
    session.save()
    session.agent.train_step_counter.assign(5)
    session.write_row({'held_out_loss': 0.5})
    session.evaluate(with_search=False)
    self.assertLen(self._rows(), 2)
    with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
      later = self._session()
    self.assertRegex(
        logs.output[0],
        r'Resuming .*run in phase behavior_cloning at training step 2; 3'
        r' training steps, \d+\.\d s of work, are repeated',
    )
    self.assertTrue(later.is_restored)
    self.assertEqual(later.train_step, 2)
    self.assertEqual(later.state.phase_step, 2)
    self.assertEqual([r['held_out_loss'] for r in self._rows()], ['1.5'])
    self.assertGreaterEqual(later.wall_seconds, session.state.wall_seconds)
    self.assertLess(later.wall_seconds, session.wall_seconds)

  def test_torn_checkpoint_rolls_back_the_run_and_its_rows(self):
    session = self._session()
    session.begin_phase('behavior_cloning')
    for step in (1, 2):
      session.agent.train_step_counter.assign(step)
      session.state.phase_step = step
      session.write_row({'held_out_loss': float(step)})
      session.save()
    checkpoints = os.path.join(self._root, 'checkpoints')
    os.truncate(
        os.path.join(checkpoints, 'ckpt-3.data-00000-of-00001'), 1_000
    )

    later = self._session()

    self.assertEqual(later.state.phase_step, 1)
    self.assertEqual([r['held_out_loss'] for r in self._rows()], ['1.0'])
    later.agent.train_step_counter.assign(2)
    later.write_row({'held_out_loss': 3.0})
    self.assertEqual(
        [r['held_out_loss'] for r in self._rows()], ['1.0', '3.0']
    )

  def test_a_row_has_the_losses_of_all_updates_since_the_last(self):
    session = self._session()
    session.begin_phase('offline')
    for name in ('losses/critic', 'losses/distillation'):
      session._note_losses(tf_agent.LossInfo(1.0, {name: 2.0}))
    session.write_row({})
    (row,) = self._rows()
    self.assertEqual(row['losses/critic'], row['losses/distillation'])
    self.assertEqual(float(row['losses/critic']), 2.0)

  def test_failed_heartbeat_write_does_not_end_the_run(self):
    os.makedirs(os.path.join(self._root, 'heartbeat.json.tmp'))
    session = self._session()
    with self.assertLogs(logging.get_absl_logger(), 'ERROR') as logs:
      session.begin_phase('behavior_cloning')
    self.assertIn('heartbeat.json could not be written', logs.output[0])

    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      self.assertTrue(self._session().is_restored)

    self.assertIn('heartbeat.json cannot be read', logs.output[0])

  def test_checkpoints_are_some_seconds_apart(self):
    often, seldom = (
        self._session(name, checkpoint_seconds=seconds)
        for name, seconds in (('often', 0.0), ('seldom', 1e6))
    )
    for session in (often, seldom):
      session.save_if_due()
    self.assertTrue(self._session('often').is_restored)
    self.assertFalse(self._session('seldom').is_restored)

  def test_a_program_that_ends_saves_a_checkpoint_first(self):
    session = self._session(checkpoint_seconds=1e6)
    self.enter_context(interruption.turns())
    interruption._ends_after_turn.set()
    with self.assertRaises(KeyboardInterrupt):
      session.save_if_due()
    self.assertTrue(self._session().is_restored)

  def test_the_end_of_a_phase_names_what_failed_starts_have_in_common(self):
    session = self._session()
    session.begin_phase('offline', 6)
    difference = failed_starts.Difference('goal[2]', 0.7, 0.5, 0.9)
    with mock.patch.object(failed_starts, 'find', return_value=difference):
      session.evaluate(with_search=True)
    with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
      session.end_phase()
    self.assertIn(difference.describe(), ' '.join(logs.output))

  def test_finished_phase_is_summarized_and_not_repeated(self):
    session = self._session()
    self.assertTrue(session.begin_phase('offline', 6))
    session.agent.train_step_counter.assign(6)
    session.state.phase_step = 6
    metrics = session.evaluate(with_search=True)
    session.end_phase()
    summary = session.state.summaries['offline']
    self.assertGreater(summary.pop('wall_seconds'), 0.0)
    self.assertEqual(
        summary,
        {
            'success_rate': metrics['success_rate'],
            'success_rate_without_search': (
                metrics['success_rate_without_search']
            ),
            'score': 100.0 * metrics['success_rate'],
            'num_evaluation_episodes': 2,
            'train_steps': 6,
            'env_steps': 0,
            'outcomes': '00',
            'outcomes_without_search': '00',
            **{
                name: metrics.get(name) for name in evaluation.SPEED_METRICS
            },
        },
    )
    for same in (session, self._session()):
      self.assertFalse(same.begin_phase('offline', 6))
      self.assertFalse(same.is_past('offline'))
      # With more steps requested, it resumes after its sixth.
      self.assertTrue(same.begin_phase('offline', 8))
      self.assertEqual(same.state.phase_step, 6)

  def test_the_episodes_of_an_evaluation_are_those_of_its_row(self):
    session = self._session()
    session.begin_phase('offline', 6)
    session.write_row({})
    session.write_row(session.evaluate(with_search=True))
    session.write_row({})
    with open(os.path.join(self._root, 'evaluations.csv')) as file:
      rows = [line.split(',') for line in file.read().splitlines()[1:]]
    self.assertEqual(
        [row[:6] for row in rows],
        [
            ['1', 'offline', '0', '0', policy, start]
            for policy in ('alone', 'search')
            for start in '01'
        ],
    )

  def _end_with_a_failed_write(self, phase):
    """Returns a session, and its mock whose writes of networks fail."""
    kept = mock.Mock()
    kept.save.return_value = False
    session = self._session(phase_checkpoints=kept)
    session.begin_phase(phase, 6)
    session.state.phase_step = 6
    session.evaluate(with_search=False)
    session.end_phase()
    return session, kept

  def test_failed_write_of_networks_is_repeated_until_the_next_phase(self):
    _, kept = self._end_with_a_failed_write('behavior_cloning')
    session = self._session(phase_checkpoints=kept)
    # Fails again; the next one succeeds.
    self.assertFalse(session.begin_phase('behavior_cloning', 6))
    kept.save.return_value = True
    session.begin_phase('offline', 6)
    self.assertEqual(
        kept.save.mock_calls, 3 * [mock.call('behavior_cloning')]
    )
    # The networks are now others.
    session.begin_phase('offline', 6)
    self.assertLen(kept.save.mock_calls, 3)

  def test_a_run_does_not_end_without_the_networks_of_its_last_phase(self):
    session, kept = self._end_with_a_failed_write('offline')
    with self.assertRaisesRegex(OSError, 'phases/offline must hold'):
      phase_checkpoint.complete(session)
    kept.save.return_value = True
    phase_checkpoint.complete(session)
    phase_checkpoint.complete(session)
    self.assertLen(kept.save.mock_calls, 3)

  def test_networks_of_a_phase_that_goes_on_are_not_written(self):
    kept = mock.Mock()
    kept.save.return_value = False
    session = self._session(phase_checkpoints=kept)
    for num_steps in (6, 8):
      self.assertTrue(session.begin_phase('offline', num_steps))
      session.state.phase_step = num_steps
      if num_steps == 6:
        session.evaluate(with_search=False)
        session.end_phase()
    self.assertLen(kept.save.mock_calls, 2)  # At the end, and once more.
    session.save()
    self.assertTrue(
        self._session(phase_checkpoints=kept).begin_phase('offline', 8)
    )
    self.assertLen(kept.save.mock_calls, 2)

  def test_without_evaluation_episodes_no_environment_is_made(self):
    domain = small_run.make_domain()
    make = self.enter_context(mock.patch.object(domain, 'make_environment'))
    session = self._session(domain=domain, num_evaluation_episodes=0)
    session.compile_ahead(with_search=True)
    self.assertIsNone(session.evaluate_controller())
    session.begin_phase('online', 6)
    session.state.phase_step = 6
    self.assertEqual(session.evaluate(with_search=True), {})
    self.assertTrue(session.state.latest)  # Not evaluated again.
    session.end_phase()
    summary = session.state.summaries['online']
    for name in 'success_rate', 'success_rate_without_search', 'score':
      self.assertIsNone(summary[name])
    make.assert_not_called()

  def test_phase_before_the_latest_is_never_resumed(self):
    session = self._session()
    for name in ('offline', 'online'):
      session.begin_phase(name, 6)
      session.state.phase_step = 6
      session.evaluate(with_search=False)
      session.end_phase()
    self.assertTrue(session.is_past('offline'))
    self.assertFalse(session.begin_phase('offline', 5))
    with self.assertRaisesRegex(ValueError, 'offline must keep its 6 .* 100'):
      session.begin_phase('offline', 100)

  def test_a_phase_without_steps_cannot_get_some_after_a_later_one(self):
    session = self._session()
    for name in ('behavior_cloning', 'online'):
      session.begin_phase(name, 6)
      session.state.phase_step = 6
      session.end_phase()
    again = self._session()
    self.assertFalse(again.begin_phase('behavior_cloning', 6))
    with self.assertRaisesRegex(ValueError, 'offline had no steps .* online'):
      again.begin_phase('offline', 6)
    last = self._session()
    self.assertFalse(last.begin_phase('behavior_cloning', 6))
    self.assertFalse(last.begin_phase('online', 6))
    self.assertTrue(last.begin_phase('another', 6))

  def test_errors_of_xla_name_the_setting_that_avoids_it(self):
    session = self._session()
    error = tf.errors.InvalidArgumentError(
        None, None, 'tf2xla conversion failed while converting while_body.'
    )
    with (
        mock.patch.object(session.experience, 'iterate'),
        mock.patch.object(session._learner, 'run', side_effect=error),
    ):
      with self.assertRaisesRegex(RuntimeError, 'Search.jit_compile = False'):
        session.train(1, None)
    with mock.patch.object(session.agent, 'train', side_effect=error):
      with self.assertRaisesRegex(RuntimeError, 'Search.jit_compile = False'):
        session.train_on(None)

  def test_controller_is_scored_once_per_run(self):
    session = self._session()
    rate = session.evaluate_controller()
    session.save()
    later = self._session(
        domain=pointmaze.PointMaze(size='UMaze', max_episode_steps=1)
    )
    self.assertEqual(later.evaluate_controller(), rate)

  def test_only_online_evaluations_compete_for_the_best(self):
    session = self._session(keep_best=True)
    best = os.path.join(self._root, 'best', 'best.json')
    for phase, with_search, wanted in (
        ('offline', True, False), ('online', False, True),
    ):
      session.begin_phase(phase, 1)
      session.evaluate(with_search=with_search)
      self.assertEqual(os.path.exists(best), wanted)
      self.assertEqual(session.state.num_online_evaluations, int(wanted))
    self.assertIsNone(self._session('other').best_policies)


if __name__ == '__main__':
  absltest.main()
