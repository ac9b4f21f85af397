"""Tests of experience sampled from a replay server, on loopback."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.replay import episode_writer
from parl_tf.replay import experience
from parl_tf.replay import memory_experience
from parl_tf.replay import reverb_experience
from parl_tf.replay import stored_step
from parl_tf.replay import tables

_ONLINE_ID = 1000
_SIGNATURE = stored_step.signature(
    tf.TensorSpec([2], tf.float32), tf.TensorSpec([1], tf.float32)
)
_REQUEST = experience.ExperienceRequest(
    critic_slices=2,
    critic_batch_size=6,
    critic_offline_fraction=0.5,
    policy_slices=1,
    policy_batch_size=200,
    cloning_batch_size=3,
)


def _episode(episode_id, num_steps=20):
  """Returns an episode; observation (id, t), reward t."""
  steps = np.arange(num_steps + 1, dtype=np.float32)
  return types.Episode(
      observation=np.stack([np.full_like(steps, episode_id), steps], axis=1),
      action=np.full((num_steps, 1), 0.25, np.float32),
      reward=steps[:-1],
      discount=np.ones(num_steps, np.float32),
      success=np.zeros(num_steps, np.bool_),
      episode_id=episode_id,
  )


def _is_online(part):
  """Returns `[rows]` bool, whether each row is from an online episode."""
  return part.policy_info['episode_id'].numpy()[:, 0] >= _ONLINE_ID


class ReverbExperienceTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._server = tables.ReplayServer(_SIGNATURE)
    self.addCleanup(self._server.stop)
    self._source = reverb_experience.ReverbExperience(
        _SIGNATURE,
        address=self._server.address,
        reward_scale=2.0,
        reward_bias=-1.0,
    )

  def _writer(self, sink):
    return episode_writer.EpisodeWriter(
        gamma=0.5, reward_scale=2.0, reward_bias=-1.0,
        never_succeeds_value=None, sink=sink,
    )

  def _write(self, num_offline, num_online):
    writer = self._writer(self._source)
    for index in range(num_offline):
      writer.write('offline', _episode(index))
    for index in range(num_online):
      writer.write('online', _episode(_ONLINE_ID + index))

  def test_slices_hold_exact_fractions_offline_first(self):
    self._write(2, 1)
    iterator = self._source.iterate(0, 5, _REQUEST)
    for _ in range(5):
      element = next(iterator)
      np.testing.assert_array_equal(
          _is_online(element.critic).reshape(2, 6),
          [[False] * 3 + [True] * 3] * 2,
      )
      self.assertFalse(_is_online(element.cloning).any())

  def test_rows_are_consecutive_steps_with_scaled_rewards(self):
    self._write(2, 1)
    part = next(self._source.iterate(0, 1, _REQUEST)).critic
    observation = part.observation.numpy()
    np.testing.assert_array_equal(observation[:, 0, 0], observation[:, 1, 0])
    np.testing.assert_array_equal(
        observation[:, 0, 1] + 1, observation[:, 1, 1]
    )
    # r = 2 t - 1.
    np.testing.assert_array_equal(
        part.reward[:, 0], 2 * observation[:, 0, 1] - 1
    )

  def test_union_follows_the_sizes_and_the_iterator_is_kept(self):
    self._write(2, 0)
    request = _REQUEST._replace(critic_slices=0)
    iterator = self._source.iterate(0, 1, request)
    self.assertFalse(_is_online(next(iterator).policy).any())
    self._write(0, 2)
    self.assertIs(self._source.iterate(1, 1, request), iterator)
    for _ in range(2):  # Drawn before the online episodes arrive.
      next(iterator)
    online = np.concatenate(
        [_is_online(next(iterator).policy) for _ in range(10)]
    )
    # 2000 draws with probability 1/2; standard deviation 0.011.
    self.assertAlmostEqual(online.mean(), 0.5, delta=5 * 0.011)

  def test_few_online_transitions_are_drawn_by_their_weight(self):
    self._write(2, 1)
    request = _REQUEST._replace(
        critic_batch_size=200, critic_max_online_weight=0.5
    )
    iterator = self._source.iterate(0, 1, request)
    online = np.concatenate(
        [_is_online(next(iterator).critic) for _ in range(5)]
    )
    # 2000 draws with probability 10 / 50; standard deviation 0.009.
    self.assertAlmostEqual(online.mean(), 0.2, delta=5 * 0.009)

  def test_element_spec_equals_that_of_memory_experience(self):
    memory = memory_experience.MemoryExperience(
        _SIGNATURE, seed=0, reward_scale=2.0, reward_bias=-1.0
    )
    for sink in (self._source, memory):
      writer = self._writer(sink)
      writer.write('offline', _episode(0))
      writer.write('online', _episode(_ONLINE_ID))
    self.assertEqual(
        self._source.iterate(0, 1, _REQUEST).element_spec,
        memory.iterate(0, 1, _REQUEST).element_spec,
    )

  def test_needed_empty_table_is_named_before_waiting(self):
    self._write(1, 0)
    self.assertEqual(self._source.num_transitions('offline'), 20)
    self.assertEqual(self._source.num_transitions('online'), 0)
    with self.assertRaisesRegex(ValueError, '`critic` needs .*`online`'):
      self._source.iterate(0, 1, _REQUEST)

  def test_error_names_a_stopped_server(self):
    self._server.stop()
    with self.assertRaisesRegex(ConnectionError, self._server.address):
      self._source.iterate(0, 1, _REQUEST)

  def test_a_dataset_beyond_an_own_servers_tables_is_refused(self):
    self._source.check_fits(10**9)  # The tables are another process's.
    source = reverb_experience.ReverbExperience(
        _SIGNATURE, reward_scale=2.0, reward_bias=-1.0
    )
    self.addCleanup(source.close)
    with self.assertRaisesRegex(ValueError, 'ReplayServer.max_size.*1000001'):
      source.check_fits(1_000_001)

  def test_own_server_stops_with_the_experience(self):
    source = reverb_experience.ReverbExperience(
        _SIGNATURE, reward_scale=2.0, reward_bias=-1.0
    )
    self._writer(source).write('offline', _episode(0))
    self.assertEqual(source.num_transitions('offline'), 20)
    self.assertEqual(self._source.num_transitions('offline'), 0)
    source.close()
    with self.assertRaisesRegex(ConnectionError, 'does not answer'):
      source.num_transitions('offline')


if __name__ == '__main__':
  tf.test.main()
