"""Tests of the collector role."""

import os
from unittest import mock

from absl.testing import absltest

from parl_tf.distributed import collector_role
from parl_tf.distributed import journal
from parl_tf.distributed import server_link
from parl_tf.distributed import spool
from parl_tf.training import run_constants
from parl_tf.training import run_directory


class CollectingTest(absltest.TestCase):

  def test_number_of_a_running_collector_is_refused(self):
    root_dir = self.create_tempdir().full_path
    with run_directory.hold(os.path.join(root_dir, 'spool', '3')):
      with self.assertRaisesRegex(ValueError, 'is in use by process'):
        collector_role.collect(root_dir, 0, 3, 'localhost:1')

  def test_nothing_is_sent_to_a_service_of_another_configuration(self):
    here = run_constants.RunConstants(
        0.99, 1.0, -1.0, -100.0, -100.0, 0.0, 0.0, 1, 70, 1, -0.25, 0.25, 7.0,
        0, 0, 0, 5.0,
    )
    there = here._replace(reward_bias=0.0)
    seen = journal.make(constants=there)
    own = mock.create_autospec(spool.Spool, instance=True)
    reader = mock.Mock(**{'read.return_value': seen})
    link = server_link.ServerLink('localhost:1')

    with self.assertRaisesRegex(ValueError, 'reward_bias` is 0 there, -1 here'):
      collector_role._exchange(link, reader, own, mock.Mock(), here)
    own.deliver.assert_not_called()
    old = mock.Mock(**{'read.return_value': journal.make(constants=here[:10])})
    with self.assertRaisesRegex(ValueError, 'same version.*has 10 const.*17'):
      collector_role._exchange(link, old, own, mock.Mock(), here)
    # Another driver, whose units differ.
    other = here._replace(greatest_action=2.5, reward_bias=0.0)
    with self.assertRaisesRegex(ValueError, 'greatest_action` is 0.25 there'):
      collector_role._exchange(link, reader, own, mock.Mock(), other)

    collector_role._exchange(link, reader, own, mock.Mock(), there)
    own.deliver.assert_called_once_with(seen)

  def _collect(
      self,
      appended,
      exchange=lambda *_: (journal.make(), 0),
      max_episodes_ahead=None,
  ):
    """Collects until the spool has received one episode per answer."""
    answers = iter(appended)
    acted = []
    weights = mock.Mock(is_over=False, num_episodes=0)
    own = mock.create_autospec(spool.Spool, instance=True)
    own.next_number.return_value = 4

    def append(number, episode):
      del number, episode
      answer = next(answers)
      if answer is None:
        weights.is_over = True
      elif answer:
        raise ValueError(answer)

    own.append.side_effect = append
    for module, name, value in (
        (collector_role.domain_lib, 'select_domain', mock.Mock()),
        (collector_role.experiment, 'make_agent', mock.Mock()),
        (
            collector_role.weights_lib,
            'Weights',
            mock.Mock(return_value=weights),
        ),
        (collector_role.run_constants, 'read', mock.Mock()),
        (collector_role, '_exchange', exchange),
        (collector_role, '_delivered_all', lambda *_: True),
    ):
      self.enter_context(mock.patch.object(module, name, value))
    actor = self.enter_context(
        mock.patch.object(collector_role.episode_actor, 'EpisodeActor')
    )
    actor().act.side_effect = lambda number: acted.append(
        number
    ) or mock.Mock(num_steps=1, policy_version=0)
    link = server_link.ServerLink('localhost:1')
    return collector_role._collect(own, link, 0, 0, max_episodes_ahead), acted

  def test_invalid_episode_is_dropped_and_logged(self):
    with self.assertLogs(level='ERROR') as logs:
      num_acted, numbers = self._collect(['`reward` has a NaN.', None])

    # The next episode has a new number; the same seeds would repeat it.
    self.assertEqual((num_acted, numbers), (1, [4, 5]))
    self.assertIn('drops an episode: `reward` has a NaN.', logs.output[0])

  def test_collector_waits_while_it_is_too_far_ahead(self):
    sleep = self.enter_context(mock.patch.object(collector_role.time, 'sleep'))
    # Numbers of episodes: arrived, and not acknowledged.
    for max_episodes_ahead, waiting, acting in (
        (3, [(3, 0), (2, 1), (0, 3)], (1, 1)),
        (None, [(9, 5), (9, 4)], (9, 3)),
    ):
      sleep.reset_mock()
      answers = [
          (journal.make(num_steps=[3] * num_arrived), num_unacknowledged)
          for num_arrived, num_unacknowledged in [*waiting, acting]
      ]
      self._collect(
          [None], lambda *_: answers.pop(0), max_episodes_ahead  # noqa: B023
      )
      self.assertEqual(sleep.call_count, len(waiting))

  def test_collector_ends_when_all_its_episodes_have_arrived(self):
    own = mock.create_autospec(spool.Spool, instance=True)
    own.deliver.side_effect = [1, 0]
    reader = mock.Mock(
        **{'read.side_effect': [None, journal.make(), journal.make()]}
    )
    for wanted in (None, None, True):
      self.assertIs(collector_role._delivered_all(reader, own), wanted)

  def test_no_episode_begins_after_the_end_of_training(self):
    def exchange(link, reader, own, weights, constants):
      del link, reader, own, constants
      weights.is_over = True  # Received with the last weights.
      return journal.make(), 0

    self.assertEqual(self._collect([], exchange), (0, []))

  def test_ten_invalid_episodes_in_a_row_are_an_error(self):
    nine = ['a NaN'] * 9
    self.assertEqual(self._collect([*nine, '', *nine, None])[0], 2)

    with self.assertRaisesRegex(ValueError, 'a NaN'):
      self._collect([*nine, 'a NaN'])


if __name__ == '__main__':
  absltest.main()
