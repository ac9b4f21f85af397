"""Tests of a served policy's samples at all stored states."""

import dataclasses
import glob
import os
import tracemalloc
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf import types
from parl_tf.replay import action_cache
from parl_tf.replay import episode_writer
from parl_tf.replay import memory_experience
from parl_tf.training import sample_segments

_STATES_PER_EPISODE = 64
_NUM_EPISODES = {'offline': 3, 'online': 2}
_HEADER = action_cache.Header(
    'first', num_samples=128, action_size=2, settings='pick'
)


def _episode(episode_id):
  num_steps = _STATES_PER_EPISODE - 1
  return types.Episode(
      observation=np.full([num_steps + 1, 1], episode_id, np.float32),
      action=np.zeros([num_steps, 2], np.float32),
      reward=np.zeros([num_steps], np.float32),
      discount=np.ones([num_steps], np.float32),
      success=np.zeros([num_steps], bool),
      episode_id=episode_id,
  )


class SampleSegmentsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._folder = self.create_tempdir().full_path
    self._tables = memory_experience.MemoryExperience(
        seed=0, reward_scale=1.0, reward_bias=0.0
    )
    writer = episode_writer.EpisodeWriter(
        gamma=0.9,
        reward_scale=1.0,
        reward_bias=0.0,
        never_succeeds_value=None,
        sink=self._tables,
    )
    for table, number in _NUM_EPISODES.items():
      for episode_id in range(number):
        writer.write(table, _episode(episode_id))
    self.enter_context(
        mock.patch.object(sample_segments, '_STATES_PER_SEGMENT', 1)
    )

  def _segments(self, base=None):
    return sample_segments.SampleSegments(
        os.path.join(self._folder, 'segments'), self._tables, _HEADER, base
    )

  def _base(self, **changes):
    """Writes a cache of the offline table, filled with 1/3."""
    path = os.path.join(self._folder, 'base')
    cache = action_cache.ActionCache.open_or_create(
        path,
        dataclasses.replace(_HEADER, **changes),
        self._tables.states('offline'),
    )
    for shard in cache.missing_shards:
      places = cache.places(shard)
      shape = (places.stop - places.start, *cache.samples.shape[1:])
      cache.write(shard, np.full(shape, 1 / 3))
    return path

  def test_new_samples_replace_those_in_memory(self):
    segments = self._segments()
    size = sum(_NUM_EPISODES.values()) * _STATES_PER_EPISODE
    num_bytes = size * _HEADER.num_samples * _HEADER.action_size * 4

    def sample(observation, num_samples, seed):
      del seed
      return np.zeros([len(observation), num_samples, 2])

    segments.draw_new(['first'], sample)
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    for _ in range(2):
      segments.attach(['first'], includes_present=True)

    peak = tracemalloc.get_traced_memory()[1]
    # One copy of all samples, and a few of a segment's, a fifth of them.
    self.assertBetween(peak / num_bytes, 1.0, 1.8)

  def test_samples_have_the_type_and_values_of_the_base(self):
    base = sample_segments.open_base(
        self._base(dtype='float16'), _HEADER, ['first']
    )
    segments = self._segments(base)
    draw = mock.Mock(side_effect=lambda observation, num_samples, seed: np.ones(
        [len(observation), num_samples, 2]
    ))
    segments.draw_new(['first'], draw)
    with mock.patch.object(self._tables, 'set_candidates') as set_candidates:
      segments.attach(['first'], includes_present=True)

    found = {x.args[0]: x.args[1] for x in set_candidates.call_args_list}
    for table, value in (('offline', np.float16(1 / 3)), ('online', 1.0)):
      size = _NUM_EPISODES[table] * _STATES_PER_EPISODE
      self.assertEqual(found[table].shape, (size, 128, 2))
      self.assertEqual(found[table].dtype, np.float16)
      np.testing.assert_array_equal(found[table], value)
    self.assertEqual(draw.call_count, _NUM_EPISODES['online'])
    for path in glob.glob(os.path.join(self._folder, 'segments', '*', '*')):
      header = action_cache.ActionCache(path).header
      self.assertEqual((header.dtype, header.settings), ('float16', 'pick'))

  @parameterized.parameters(
      (dict(settings='place'), "`settings` 'pick', got 'place'"),
      (dict(action_size=4), '`action_size` 2, got 4'),
  )
  def test_a_base_of_something_else_is_refused(self, changes, message):
    path = self._base(**changes)
    with self.assertRaisesRegex(ValueError, f'{path} must have {message}'):
      sample_segments.open_base(path, _HEADER, ['first'])
    # It is not used.
    sample_segments.open_base(path, _HEADER, ['another'])

  @parameterized.parameters(
      dict(num_samples=2), dict(temperature=0.5), dict(settings=None)
  )
  def test_what_a_base_lacks_is_no_error(self, **changes):
    path = self._base(**changes)
    base = sample_segments.open_base(path, _HEADER, ['first'])
    draw = mock.Mock(side_effect=lambda observation, num_samples, seed: np.ones(
        [len(observation), num_samples, 2]
    ))
    self._segments(base).draw_new(['first'], draw)
    # Samples of other settings are drawn again; those of unknown ones are read.
    wanted = dict(_NUM_EPISODES)
    if 'settings' in changes:
      del wanted['offline']
    self.assertEqual(draw.call_count, sum(wanted.values()))


if __name__ == '__main__':
  absltest.main()
