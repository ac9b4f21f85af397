"""Tests of reading a run's episode log."""

import os
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import numpy as np

from parl_tf import types
from parl_tf.datasets import formats
from parl_tf.datasets import rows
from parl_tf.replay import episode_log
from tests.datasets import dataset_case


def _episode(episode_id=0, start=0, is_terminal=True, **changes):
  """Returns an episode of three steps."""
  is_end = np.arange(3) == 2
  episode = types.Episode(
      observation=start + np.arange(8, dtype=np.float32).reshape([4, 2]),
      action=np.array([[-1], [0.25], [1]], np.float32),
      reward=np.array([-0.5, 0, 2], np.float32),
      discount=1 - (is_end & is_terminal).astype(np.float32),
      success=np.array([False, True, False]),
      episode_id=episode_id,
      policy_version=7,
  )
  return episode._replace(**changes)


def _arrays(**changes):
  """Returns the arrays of an episode file; None removes one."""
  episode = _episode()
  arrays = {x: np.asarray(y) for x, y in episode._asdict().items()}
  arrays.update(changes)
  return {name: x for name, x in arrays.items() if x is not None}


class RunLogTest(dataset_case.DatasetCase):

  file_name = 'episodes'

  def _log(self, *episodes):
    log = episode_log.EpisodeLog(self._path)
    for episode in episodes:
      log.append(episode)

  def _write(self, arrays, position=0, episode_id=0):
    os.makedirs(self._path, exist_ok=True)
    name = f'episode_{position:08d}_{episode_id}.npz'
    np.savez(os.path.join(self._path, name), **arrays)
    return name


class ReadTest(RunLogTest):

  def test_logged_episodes_are_read_back(self):
    # Ids follow the order in which episodes started, so they may decrease.
    logged = [
        _episode(5), _episode(3, start=50, is_terminal=False),
        _episode(-1, start=90),
    ]
    self._log(*logged)
    # Bounds of a run's dataset do not apply to its log.
    found = self._read(action_bounds=(-2.0, 2.0))
    self.assertLen(found, 3)
    for number, (episode, expected) in enumerate(zip(found, logged)):
      for field in ('observation', 'action', 'reward', 'discount', 'success'):
        seen = getattr(episode, field)
        np.testing.assert_array_equal(seen, getattr(expected, field))
        self.assertEqual(seen.dtype, getattr(expected, field).dtype)
      self.assertTrue(episode.has_last_transition)
      self.assertEqual(episode.episode_id, number)
    self.assertEqual(found[0].discount.tolist(), [1, 1, 0])
    self.assertEqual(found[1].discount.tolist(), [1, 1, 1])

  def test_an_unknown_last_observation_stays_unknown(self):
    known = _episode(0, is_terminal=False)
    unknown = _episode(1, is_terminal=False, has_last_transition=False)
    unknown.observation[-1] = unknown.observation[-2]
    self._log(known, unknown, known._replace(episode_id=2))
    found = self._read()
    self.assertEqual(
        [x.has_last_transition for x in found], [True, False, True]
    )
    np.testing.assert_array_equal(found[1].observation, unknown.observation)

  def test_nested_observations(self):
    observation = {
        'image': np.arange(48, dtype=np.uint8).reshape([4, 2, 2, 3]),
        'place/x': np.ones([4, 2], np.float32),
    }
    self._log(_episode(observation=observation))
    found = self._read()[0].observation
    self.assertEqual(list(found), list(observation))
    for key, array in observation.items():
      np.testing.assert_array_equal(found[key], array)
      self.assertEqual(found[key].dtype, array.dtype)

  def test_only_requested_parts_are_read(self):
    self._log(_episode(observation={
        'image': np.zeros([4, 2, 2, 3], np.uint8),
        'place': np.ones([4, 2], np.float32),
    }))
    with mock.patch.object(
        np.lib.format, 'read_array', side_effect=np.lib.format.read_array
    ) as record:
      found, = self._read(
          observation_spec={'place': specs.Array((2,), np.float32)}
      )
    names = {x.args[0].name for x in record.call_args_list}
    self.assertEqual(list(found.observation), ['place'])
    self.assertIn('observation/place.npy', names)
    self.assertNotIn('observation/image.npy', names)

  def test_one_episode_is_read_at_a_time(self):
    self._log(_episode(0), _episode(1))
    with mock.patch.object(np, 'load', side_effect=np.load) as record:
      with formats.open_source(self._path, rows.Layout()) as source:
        self.assertEqual(record.call_count, 0)
        first = next(source.read())
    self.assertEqual(record.call_count, 1)
    self.assertLen(first['rewards'], 3)

  def test_statistics(self):
    self._log(_episode(0), _episode(1, start=50, is_terminal=False))
    found = self._check_figures(
        "a run's episode log", num_terminals=1, num_timeouts=1, lengths=[3, 3],
        returns=[1.5, 1.5], successes=[True, True],
    )
    self.assertEqual(found.shapes, {
        'observation': (6, 2), 'action': (6, 1), 'reward': (6,),
        'discount': (6,), 'success': (6,),
    })

  def test_success_field_can_be_named(self):
    self._write(_arrays(won=np.array([True, False, False])))
    episode, = self._read(success_field='won')
    self.assertEqual(episode.success.tolist(), [True, False, False])
    # A field of the data that the run began with.
    own, = self._read(success_field='lost')
    np.testing.assert_array_equal(own.success, self._read()[0].success)

  def test_incomplete_files_are_ignored(self):
    self._log(_episode())
    name = 'episode_00000001_1.npz.partial'
    with open(os.path.join(self._path, name), 'wb') as file:
      file.write(b'PK')
    self.assertLen(self._read(), 1)


class FaultTest(RunLogTest):

  @parameterized.parameters(
      ('action', None, '`episode_00000000_0.npz/action`.*missing'),
      ('reward', None, '`episode_00000000_0.npz/reward`.*missing'),
      ('discount', None, '`episode_00000000_0.npz/discount`.*missing'),
      ('observation', None, '`episode_00000000_0.npz/observation`.*missing'),
      ('episode_id', None, '`episode_00000000_0.npz/episode_id`.*missing'),
      ('has_last_transition', None, '.*npz/has_last_transition`.*missing'),
      ('observation', np.zeros([3, 2], np.float32),
       r'`episode_00000000_0.npz/observation` must have 4 rows.*\(3, 2\)'),
      ('reward', np.zeros([4], np.float32), '.*npz/reward` must have 3 rows'),
      ('action', np.zeros([0, 1], np.float32),
       '.*npz/action` must have at least one row'),
      ('action', np.full([3, 1], 2, np.float32), r'`action` must be in \[-1'),
      ('reward', np.array([0, np.nan, 0]), '`reward` must be finite.*row 1'),
      ('discount', np.array([1, 1, 0.75]), '`discount`.*0.75 in step 2 of 3'),
      ('discount', np.array([1, 0, 1]), '`discount`.*0.* in step 1 of 3'),
      ('episode_id', np.array(4), '`episode_id` must be 0.*got 4'),
  )
  def test_arrays_of_an_episode(self, name, array, message):
    self._write(_arrays(**{name: array}))
    self.assertRegex('\n'.join(self._faults()), 'episodes.*: ' + message)

  def test_episodes_with_different_fields(self):
    observation = {'place': np.zeros([4, 2], np.float32)}
    self._write(_arrays())
    self._write(
        {**_arrays(observation=None, episode_id=np.array(1)),
         'observation/place': observation['place']},
        1, 1,
    )
    self.assertRegex(
        self._faults()[0],
        r"`episode_00000001_1.npz` must contain \[.*'observation'.*as"
        r" `episode_00000000_0.npz` does, got.*'observation/place'",
    )

  def test_a_file_of_the_sequence_is_missing(self):
    self._write(_arrays())
    self._write(_arrays(episode_id=np.array(2)), 2, 2)
    self.assertRegex(
        self._faults()[0], '`episode_00000002_2.npz` must have position 1'
    )

  def test_a_file_of_the_sequence_is_duplicated(self):
    self._write(_arrays())
    self._write(_arrays(episode_id=np.array(1)), 0, 1)
    self.assertRegex(
        self._faults()[0], '`episode_00000000_1.npz` must have position 1'
    )

  def test_an_id_is_duplicated(self):
    self._write(_arrays())
    self._write(_arrays(), 1, 0)
    self.assertRegex(
        self._faults()[0],
        '`episode_00000001_0.npz`.*id.*of `episode_00000000_0.npz`',
    )

  @parameterized.parameters(0.0, 0.05, 0.5, 0.99)
  def test_truncated_file(self, share):
    self._write(_arrays())
    name = self._write(_arrays(episode_id=np.array(1)), 1, 1)
    self._check_cut_short(
        os.path.join(self._path, name),
        share,
        'episode_00000001_1.npz: .*truncated or corrupt',
    )

  def test_corruption_anywhere_is_reported_or_harmless(self):
    path = os.path.join(self._path, self._write(_arrays()))
    self._check_damage_anywhere(path)

  def test_a_directory_of_other_files_is_not_a_log(self):
    os.makedirs(self._path)
    with open(os.path.join(self._path, 'episode_1.npz'), 'wb'):
      pass
    self.assertRegex(self._faults()[0], 'the directory is corrupt or in')


if __name__ == '__main__':
  absltest.main()
