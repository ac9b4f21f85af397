"""Tests of the defaults of the domain base class, and of lost episodes."""

import time
from unittest import mock

from absl.testing import absltest
from dm_env import specs
import gin
import numpy as np

from parl_tf import types
from parl_tf.domains import domain


@gin.configurable('Still')
class _Still(domain.Domain):
  """A domain that defines only what is abstract."""

  max_episode_steps = 1

  def __init__(self, reward_scale=1.0):
    self.reward_scale = reward_scale

  def make_environment(self, seed, evaluation):
    return (seed, evaluation)

  def observation_spec(self):
    return specs.Array((1,), np.float32)

  def action_spec(self):
    return specs.BoundedArray((3,), np.float32, -1.0, 1.0)


def _episode(success):
  steps = len(success)
  return types.Episode(
      observation=np.zeros([steps + 1, 1], np.float32),
      action=np.zeros([steps, 3], np.float32),
      reward=np.zeros([steps], np.float32),
      discount=np.ones([steps], np.float32),
      success=np.array(success),
  )


class ActUntilKeptTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._sleep = self.enter_context(mock.patch.object(time, 'sleep'))

  def _pauses(self):
    return [x.args[0] for x in self._sleep.call_args_list]

  def test_a_fault_that_lasts_has_time_to_pass(self):
    results = [domain.EpisodeLostError('gone')] * 4 + ['kept']
    act = mock.Mock(side_effect=results)
    self.assertEqual(domain.act_until_kept(act), 'kept')
    self.assertEqual(self._pauses(), [1.0, 2.0, 4.0])

  def test_the_fifth_lost_episode_is_an_error(self):
    act = mock.Mock(side_effect=domain.EpisodeLostError('gone'))
    with self.assertRaisesRegex(
        domain.EpisodeLostError, '5 episodes in a row were lost.*: gone'
    ):
      domain.act_until_kept(act)
    self.assertEqual(act.call_count, 5)

  def test_a_single_lost_episode_is_repeated_at_once(self):
    act = mock.Mock(side_effect=[domain.EpisodeLostError('gone'), 'kept'])
    self.assertEqual(domain.act_until_kept(act), 'kept')
    self.assertEmpty(self._pauses())


class DomainTest(absltest.TestCase):

  def test_success_at_any_step_counts(self):
    self.assertTrue(_Still().is_success(_episode([False, True, False])))
    self.assertFalse(_Still().is_success(_episode([False, False])))

  def test_score_is_the_success_rate(self):
    # 1 of 4 episodes: 100 * 1 / 4 = 25.
    episodes = [_episode([True])] + 3 * [_episode([False])]
    self.assertEqual(_Still().score(episodes), 25.0)

  def test_score_without_episodes_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'episodes'):
      _Still().score([])

  def test_raw_action_bounds_default_to_the_unit_box(self):
    low, high = _Still().raw_action_bounds
    np.testing.assert_array_equal(low, [-1, -1, -1])
    np.testing.assert_array_equal(high, [1, 1, 1])

  def test_data_environment_defaults_to_the_collection_environment(self):
    self.assertEqual(_Still().make_data_environment(5), (5, False))

  def test_optional_values_default_to_none(self):
    self.assertIsNone(_Still().normalization)
    self.assertIsNone(_Still().never_succeeds_value(0.9))
    self.assertIsNone(_Still().value_range(0.9))
    self.assertIsNone(_Still().make_data_controller(None))

  def test_a_domain_without_controller_cannot_record(self):
    with self.assertRaisesRegex(ValueError, '_Still must have a controller'):
      _Still().make_recorder(0)

  def test_a_domain_without_play_cannot_record_it(self):
    domain_with_controller = _Still()
    domain_with_controller.make_controller = lambda environment: [environment]
    with self.assertRaisesRegex(ValueError, 'to record play'):
      domain_with_controller.make_recorder(0, play=True)

  def test_make_recorder_returns_environment_and_controller(self):
    domain_with_controller = _Still()
    domain_with_controller.make_controller = lambda environment: [environment]

    self.assertEqual(
        domain_with_controller.make_recorder(5), ((5, False), [(5, False)])
    )

  def test_gin_selects_the_domain(self):
    self.addCleanup(gin.clear_config)
    gin.parse_config(
        'select_domain.domain = @Still()\nStill.reward_scale = 2.0'
    )

    selected = domain.select_domain()

    self.assertIsInstance(selected, _Still)
    self.assertEqual(selected.reward_scale, 2.0)


if __name__ == '__main__':
  absltest.main()
