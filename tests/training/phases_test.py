"""Tests of the phases of a run."""

import csv
import functools
import os
from unittest import mock

from absl import logging
from absl.testing import parameterized
import imageio
import numpy as np
from tensorboard.backend.event_processing import event_accumulator
import tensorflow as tf

from parl_tf.replay import experience
from parl_tf.training import held_out_rows
from parl_tf.training import phases
from tests import eager
from tests import tensor_case
from tests.training import small_run

_CRITIC = dict(
    critic_slices=1, critic_batch_size=8, critic_offline_fraction=0.5
)
_POLICY = dict(policy_slices=1, policy_batch_size=4)


def _online(**kwargs):
  return phases.Online(
      **{
          **dict(
              num_episodes=2,
              num_warm_up_episodes=2,
              critic_batch_size=8,
              policy_batch_size=4,
              evaluation_interval=10,
          ),
          **kwargs,
      }
  )


class IsFlatTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('nothing', [], False),
      # Everything is in the last fifth: there is nothing to compare with.
      ('first', [(10, 1.0)], False),
      # The last fifth of 100 steps begins after 80. 0.90 is 10 % below 1.0.
      ('falling', [(80, 1.0), (90, 0.95), (100, 0.90)], False),
      # 0.995 is only 0.5 % below.
      ('falling_slowly', [(80, 1.0), (90, 1.0), (100, 0.995)], True),
      ('constant', [(50, 1.0), (80, 1.0), (100, 1.0)], True),
      # The best of the last fifth counts, not the last.
      ('noisy', [(80, 1.0), (90, 0.95), (100, 2.0)], False),
      # The best earlier value counts, not the previous one.
      ('noisy_before', [(40, 0.9), (80, 1.0), (100, 0.95)], True),
      # 1 % of -1.0 is 0.01: -1.02 is lower by more, -1.005 by less.
      ('negative_falling', [(80, -1.0), (100, -1.02)], False),
      ('negative_flat', [(80, -1.0), (100, -1.005)], True),
  )
  def test_by_one_percent(self, losses, expected):
    self.assertEqual(held_out_rows.is_flat(losses, 0.01), expected)

  def test_without_tolerance_any_fall_counts(self):
    self.assertFalse(held_out_rows.is_flat([(80, 1.0), (100, 0.999)], 0.0))
    self.assertTrue(held_out_rows.is_flat([(80, 1.0), (100, 1.001)], 0.0))


class ArgumentsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('no_cloning', phases.BehaviorCloning, 'num_steps', 0),
      ('tolerance', phases.BehaviorCloning, 'tolerance', 1.5),
      ('min_steps', phases.BehaviorCloning, 'min_steps', -1),
      ('offline_steps', phases.Offline, 'num_steps', -1),
      ('offline_batch', phases.Offline, 'batch_size', 0),
      ('offline_interval', phases.Offline, 'interval', 0),
      ('evaluations', phases.Offline, 'evaluation_interval', 1_500),
      ('episodes', phases.Online, 'num_episodes', -2),
      ('no_warm_up', phases.Online, 'num_warm_up_episodes', 0),
      ('fraction', phases.Online, 'offline_fraction', 1.5),
      ('part_of_a_row', phases.Online, 'offline_fraction', 0.3),
      ('weight', phases.Online, 'max_online_weight', -1.0),
      ('videos', phases.Online, 'video_interval', 75),
      ('order', phases.Online, 'order', 'at_random'),
      ('training', phases.Online, 'training_interval', 0),
  )
  def test_value_out_of_range_is_named(self, phase_ctor, name, value):
    with self.assertRaisesRegex(ValueError, f'{name}`.*{value}'):
      phase_ctor(**{name: value})


class PhaseTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self._dir = self.create_tempdir().full_path
    self._root = os.path.join(self._dir, 'run')
    self._episodes = small_run.make_episodes(
        os.path.join(self._dir, 'data.hdf5')
    )

  def _session(self):
    session = small_run.make_session(self._root)
    for episode in self._episodes:
      session.write_episode('offline', episode)
    return session

  def _rows(self):
    with open(os.path.join(self._root, 'metrics.csv')) as file:
      return list(csv.DictReader(file))


class BehaviorCloningTest(PhaseTest):

  def test_phase_ends_at_its_steps_or_once_flat(self):
    session = self._session()
    # A tolerance of 0.9 requires a tenfold drop of the loss: it is soon flat.
    phase = phases.BehaviorCloning(
        num_steps=40, batch_size=8, interval=2, tolerance=0.9, min_steps=7
    )
    phase.run(session, self._episodes[:2])
    # At 6 steps it must not end yet; at 8 it is flat.
    self.assertEqual(session.train_step, 8)
    rows = self._rows()
    self.assertEqual([int(r['train_step']) for r in rows], [2, 4, 6, 8, 8])
    self.assertTrue(all(r['held_out_loss'] for r in rows[:-1]))
    self.assertNotEmpty(rows[-1]['success_rate_without_search'])
    self.assertEmpty(rows[-1]['success_rate'])
    self.assertEqual(
        {r for _, _, r in session.experience.requests},
        {experience.ExperienceRequest(cloning_batch_size=8)},
    )
    # A later session does not repeat it.
    later = small_run.make_session(self._root)
    phase.run(later, self._episodes[:2])
    self.assertEqual(later.train_step, 8)
    self.assertLen(self._rows(), 5)


  def test_a_finished_phase_goes_on_with_more_steps(self):
    for num_steps, wanted in (4, [2, 4, 4]), (7, [2, 4, 4, 6, 7, 7]):
      session = self._session()
      phase = phases.BehaviorCloning(
          num_steps=num_steps, batch_size=8, interval=2
      )
      phase.run(session, self._episodes[:2])
      self.assertEqual([int(r['train_step']) for r in self._rows()], wanted)
    summary = session.state.summaries['behavior_cloning']
    self.assertEqual(summary['train_steps'], 7)


class OfflineTest(PhaseTest):

  def test_evaluations_stay_at_their_steps_if_the_interval_changes(self):
    session = self._session()
    phases.Offline(num_steps=3, batch_size=8, interval=3).run(session)
    path = os.path.join(self._root, 'policies', 'offline')
    os.makedirs(path)
    phases.Offline(
        num_steps=9, batch_size=8, interval=2, evaluation_interval=4
    ).run(session)
    rows = self._rows()
    self.assertEqual(
        [int(r['train_step']) for r in rows], [3, 4, 6, 8, 9]
    )
    self.assertEqual(
        [bool(r['score']) for r in rows], [True, True, False, True, True]
    )
    # The policies of the shorter phase are gone, and can be exported again.
    self.assertFalse(os.path.exists(path))

  def test_the_target_policy_is_the_one_that_the_phase_starts_with(self):
    session = self._session()
    calls = []
    session.agent.reset_following_policies = lambda: calls.append('frozen')
    for num_steps in (2, 4):  # The second resumes the first.
      phases.Offline(num_steps, batch_size=8, interval=2).run(session)
    self.assertEqual(calls, ['frozen'])

  def test_only_the_critic_is_trained_and_more_steps_resume(self):
    session = self._session()
    policy = session.agent.generative_policy
    before = [v.numpy() for v in policy.variables]
    sizes = dict(batch_size=8, interval=2, evaluation_interval=4)
    phase = phases.Offline(num_steps=6, **sizes)
    phase.run(session)
    for seen, wanted in zip(policy.variables, before, strict=True):
      self.assertAllEqual(seen, wanted)
    rows = self._rows()
    self.assertEqual([int(r['train_step']) for r in rows], [2, 4, 6])
    # Evaluated after 4 steps and at the end.
    self.assertEqual([bool(r['score']) for r in rows], [False, True, True])
    request = experience.ExperienceRequest(
        critic_slices=1, critic_batch_size=8
    )
    self.assertEqual(
        session.experience.requests,
        [(0, 2, request), (2, 2, request), (4, 2, request)],
    )
    phase.run(session)
    self.assertLen(self._rows(), 3)
    phases.Offline(num_steps=8, **sizes).run(session)
    self.assertEqual(self._rows()[:3], rows)
    self.assertEqual(self._rows()[3]['train_step'], '8')
    self.assertEqual(session.state.summaries['offline']['train_steps'], 8)

  def test_methods_without_a_frozen_policy_train_it_too(self):
    session = self._session()
    policy = session.agent.generative_policy
    before = [v.numpy() for v in policy.trainable_variables]
    with mock.patch.object(phases.cached_samples, 'attach') as attach:
      phases.Offline(
          num_steps=2, batch_size=8, interval=2, train_policy=True,
          cache_candidates=True,
      ).run(session)
    attach.assert_not_called()  # Samples of before would be stale.
    request = experience.ExperienceRequest(
        critic_slices=1,
        critic_batch_size=8,
        policy_slices=1,
        policy_batch_size=8,
        policy_offline_fraction=1.0,
    )
    self.assertEqual(session.experience.requests, [(0, 2, request)])
    self.assertTrue(
        any(np.any(v != w) for v, w in zip(policy.trainable_variables, before))
    )

  def test_phase_with_fewer_steps_requested_than_taken_is_evaluated(self):
    session = self._session()
    session.begin_phase('offline')
    session.state.phase_step = 4
    session.save()
    session = self._session()
    phases.Offline(num_steps=2, batch_size=8, interval=2).run(session)
    self.assertLen(self._rows(), 1)
    self.assertNotEmpty(self._rows()[0]['success_rate'])
    self.assertIn('offline', session.state.summaries)

  def test_a_search_that_is_worse_than_the_policy_is_named(self):
    session = self._session()

    def evaluate(with_search):
      del with_search
      session.state.latest = {
          'success_rate': 0.1,
          'success_rate_without_search': 0.5,
          'score': 10.0,
          'score_without_search': 50.0,
          'num_evaluation_episodes': 64,
          'outcomes': '100' * 20,
          'outcomes_without_search': '111' * 20,
      }
      return {}

    session.evaluate = evaluate
    phase = phases.Offline(num_steps=2, batch_size=8, interval=2)
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      phase.run(session)
    self.assertIn('10 % of 60 episodes with search', ' '.join(logs.output))


class OnlineTest(PhaseTest):

  def _run(self, session, **kwargs):
    _online(**kwargs).run(session)
    return [int(r['collect/length']) for r in self._rows()]

  def test_one_training_step_per_environment_step_after_the_warm_up(self):
    session = self._session()
    lengths = self._run(
        session,
        offline_fraction=0.25,
        max_online_weight=3.0,
        policy_offline_fraction=0.75,
    )
    self.assertLen(lengths, 4)
    request = experience.ExperienceRequest(
        critic_slices=1,
        critic_batch_size=8,
        critic_offline_fraction=0.25,
        critic_max_online_weight=3.0,
        policy_offline_fraction=0.75,
        **_POLICY,
    )
    self.assertEqual(
        session.experience.requests,
        [(0, lengths[2], request), (lengths[2], lengths[3], request)],
    )
    rows = self._rows()
    self.assertEqual(
        [int(r['train_step']) for r in rows],
        [0, 0, lengths[2], lengths[2] + lengths[3]],
    )
    self.assertAllEqual(
        [int(r['env_steps']) for r in rows], np.cumsum(lengths)
    )
    self.assertEqual([r['episodes'] for r in rows], ['1', '2', '3', '4'])
    self.assertEqual([bool(r['score']) for r in rows], [False] * 3 + [True])

  def test_training_steps_may_be_fewer_than_environment_steps(self):
    session = self._session()
    lengths = self._run(session, training_interval=2)
    num_steps = np.cumsum(lengths)
    # Steps that are left over at the end of an episode count in the next.
    due = num_steps // 2 - num_steps[1] // 2
    self.assertGreater(due[3], lengths[2] // 2 + lengths[3] // 2)
    self.assertEqual(
        [int(r['train_step']) for r in self._rows()], [0, 0, due[2], due[3]]
    )

  def test_an_episode_shorter_than_the_interval_trains_nothing(self):
    session = self._session()
    num_steps = sum(self._run(session, training_interval=1_000))
    self.assertLess(num_steps, 1_000)
    self.assertEqual(session.experience.requests, [])
    self.assertEqual(session.train_step, 0)

  def test_videos_of_an_evaluation_episode_are_in_tensorboard(self):
    session = self._session()
    steps = self._run(
        session, num_episodes=4, evaluation_interval=1, video_interval=2
    )
    accumulator = event_accumulator.EventAccumulator(
        os.path.join(self._root, 'tensorboard'), {'images': 0}
    )
    accumulator.Reload()
    videos = accumulator.Images('evaluation')
    # After the second and the fourth episode behind the two of the warm-up.
    self.assertEqual(
        [video.step for video in videos], [sum(steps[2:4]), sum(steps[2:])]
    )
    frames = imageio.mimread(videos[-1].encoded_image_string)
    self.assertLen(frames, small_run.EPISODE_STEPS + 1)
    environment = small_run.make_domain().make_environment(0, evaluation=True)
    environment.reset()
    self.assertEqual(frames[0].shape, environment.render().shape)
    # The body, which is blue, moves.
    self.assertNotAllEqual(frames[0], frames[-1])

  def test_the_target_policy_is_the_one_that_the_phase_starts_with(self):
    for phase_step, wanted in ((0, ['frozen']), (2, [])):
      session = self._session()
      calls = []
      session.agent.reset_following_policies = lambda: calls.append('frozen')  # pylint: disable=cell-var-from-loop
      session.begin_phase('online', 3)
      session.state.phase_step = phase_step
      self._run(session, num_episodes=2)
      self.assertEqual(calls, wanted)

  def test_a_resumed_phase_has_the_online_settings_too(self):
    session = self._session()
    names = 'begin_online', 'reset_optimizers', 'reset_following_policies'
    calls = []
    for name in names:
      setattr(session.agent, name, functools.partial(calls.append, name))
    session.begin_phase('online', 4)
    session.state.phase_step = 2
    self._run(session)
    self.assertEqual(calls, ['begin_online'])

  def test_order_per_episode_requests_policy_rows_first(self):
    session = self._session()
    optimizer = session.agent.checkpoint_items['critic_optimizer']
    optimizer.iterations.assign(100)
    num_steps = self._run(session, num_episodes=1, order='per_episode')[-1]
    # The phase starts with new optimizers.
    self.assertEqual(optimizer.iterations.numpy(), num_steps)
    self.assertEqual(
        session.experience.requests,
        [
            (0, num_steps, experience.ExperienceRequest(**_POLICY)),
            (num_steps, num_steps, experience.ExperienceRequest(**_CRITIC)),
        ],
    )

  def test_order_per_episode_needs_neither_critic_nor_improver(self):
    phase = phases.Online(order='per_episode')
    for critic_utd, policy_utd in (0, 2), (3, 0), (3, 2):
      agent = mock.Mock(critic_utd=critic_utd, policy_utd=policy_utd)
      requests = phase._requests(agent)
      self.assertLen(requests, bool(critic_utd) + bool(policy_utd))
      for request in requests:
        experience.requested_parts(request)


if __name__ == '__main__':
  tf.test.main()
