"""Tests of reading and writing D4RL's HDF5 layout."""

import tracemalloc

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import gin
import h5py
import numpy as np

from parl_tf import picture_store
from parl_tf.datasets import d4rl_writer as writer
from parl_tf.datasets import reading
from tests.datasets import d4rl_columns
from tests.datasets import dataset_case
from tests.datasets import episode_check

_OBSERVATION_SPEC = specs.Array((2,), np.float32, 'observation')
_ACTION_SPEC = specs.BoundedArray((1,), np.float32, -1.0, 1.0, 'action')

_episode = d4rl_columns.make_episode


class D4rlTest(dataset_case.DatasetCase):

  def _write(self, columns):
    d4rl_columns.write(self._path, columns)


class ReadTest(D4rlTest):

  def test_episodes_end_at_terminals_and_timeouts(self):
    timeouts = np.isin(np.arange(7), [2, 4])  # The first is terminal, too.
    self._write(d4rl_columns.make(timeouts=timeouts))
    found = self._read()
    self.assertEqual([episode.num_steps for episode in found], [3, 2, 2])
    self.assertEqual([episode.episode_id for episode in found], [0, 1, 2])
    self.assertEqual(found[0].discount.tolist(), [1, 1, 0])
    self.assertEqual(found[1].discount.tolist(), [1, 1])
    self.assertEqual(found[0].success.tolist(), [False, False, True])
    for episode in found:
      episode_check.check(episode, _OBSERVATION_SPEC, _ACTION_SPEC)
      self.assertEqual(episode.policy_version, -1)

  def test_a_terminal_row_without_next_observation_keeps_its_transition(self):
    self._write(d4rl_columns.make())
    first = self._read()[0]
    # Rows 0, 1 and 2, followed by the last row's own observation.
    self.assertEqual(first.observation[:, 0].tolist(), [0, 2, 4, 4])
    self.assertTrue(first.has_last_transition)
    self.assertEqual(first.num_transitions, 3)

  def test_a_timeout_without_next_observation_has_no_last_transition(self):
    self._write(d4rl_columns.make())
    second = self._read()[1]
    self.assertFalse(second.has_last_transition)
    self.assertEqual(second.num_transitions, 1)
    self.assertLen(second.reward, 2)

  def test_rows_after_the_last_end_form_an_episode_with_a_timeout(self):
    self._write(d4rl_columns.make())
    last = self._read()[-1]
    self.assertEqual(last.num_steps, 2)
    self.assertEqual(last.discount.tolist(), [1, 1])
    self.assertFalse(last.has_last_transition)

  def test_next_observations_are_used_if_the_file_has_them(self):
    columns = d4rl_columns.make('-T-t')
    successors = np.roll(columns['observations'], -1, axis=0)
    successors[1], successors[3] = 71, 73
    self._write({**columns, 'next_observations': successors})
    first, second = self._read()
    self.assertEqual(first.observation[:, 0].tolist(), [0, 2, 71])
    self.assertEqual(second.observation[:, 0].tolist(), [4, 6, 73])
    self.assertTrue(second.has_last_transition)

  def test_timeouts_are_optional(self):
    self._write(d4rl_columns.make('-T--T', timeouts=None))
    self.assertEqual([e.num_steps for e in self._read()], [2, 3])

  @parameterized.parameters(np.uint8, np.int64, np.float32)
  def test_flags_may_be_numbers(self, dtype):
    columns = d4rl_columns.make()
    self._write({**columns, 'terminals': columns['terminals'].astype(dtype)})
    self.assertEqual([e.num_steps for e in self._read()], [3, 2, 2])

  def test_scalar_columns_may_have_a_second_axis_of_size_one(self):
    columns = d4rl_columns.make()
    for name in ('rewards', 'terminals', 'timeouts'):
      columns[name] = columns[name][:, None]
    self._write(columns)
    self.assertEqual(self._read()[0].reward.tolist(), [0, 0, 1])

  def test_float64_is_cast(self):
    columns = d4rl_columns.make()
    self._write({n: x.astype(float) if x.dtype == np.float32 else x
                 for n, x in columns.items()})
    self.assertEqual(self._read()[0].observation.dtype, np.float32)
    self.assertEqual(self._read()[0].reward.dtype, np.float32)

  def test_success_is_read_from_infos_if_present(self):
    self._write(d4rl_columns.make(**{'infos/success': np.arange(7) == 1}))
    self.assertEqual(self._read()[0].success.tolist(), [False, True, False])

  def test_success_field_can_be_named(self):
    self._write(d4rl_columns.make(**{'infos/solved': np.arange(7) == 0}))
    episodes = self._read(success_field='infos/solved')
    self.assertEqual(episodes[0].success.tolist(), [True, False, False])
    with writer.EpisodeFile(self._path, has_next_observations=False) as file:
      file.append(episodes[0])
    first = self._read(success_field='infos/solved')[0]  # Has other flags now.
    self.assertEqual(first.success.tolist(), [True, False, False])

  def test_success_threshold_can_be_set(self):
    rewards = np.array([0.5, 2, 1, 0, 0, 0, 0], np.float32)
    self._write(d4rl_columns.make(rewards=rewards))
    first = self._read(success_reward=1.0)[0]
    self.assertEqual(first.success.tolist(), [False, True, False])

  def test_actions_are_mapped_from_their_bounds(self):
    # [0, 4] -> [-1, 1]: 1 -> 2 * 1 / 4 - 1 = -0.5.
    actions = np.array([0, 1, 2, 3, 4, 2, 2], np.float32)[:, None]
    self._write(d4rl_columns.make(actions=actions))
    first, second, _ = self._read(action_bounds=(0.0, 4.0))
    np.testing.assert_allclose(first.action[:, 0], [-1, -0.5, 0])
    np.testing.assert_allclose(second.action[:, 0], [0.5, 1])

  def test_bounds_can_differ_between_entries(self):
    actions = np.tile(np.array([[1.0, 10.0]], np.float32), [7, 1])
    self._write(d4rl_columns.make(actions=actions))
    first = self._read(action_bounds=((0.0, 0.0), (1.0, 20.0)))[0]
    np.testing.assert_allclose(first.action[0], [1, 0])

  def test_actions_are_clipped_if_requested(self):
    self._write(d4rl_columns.make(actions=np.full([7, 1], 1.5, np.float32)))
    self.assertEqual(self._read(clip_actions=True)[0].action[0, 0], 1)

  def test_rounding_errors_beyond_the_bounds_are_tolerated(self):
    actions = np.full([7, 1], 1 + 2e-7, np.float32)
    self._write(d4rl_columns.make(actions=actions))
    self.assertEqual(self._read()[0].action.max(), 1)

  def test_an_episode_can_span_many_chunks(self):
    rows = 40_000
    ends = '-' * (rows - 1) + 't'
    columns = d4rl_columns.make(ends)
    self._write(columns)
    episode, = self._read()
    np.testing.assert_array_equal(
        episode.observation[:-1], columns['observations']
    )

  def test_memory_does_not_grow_with_the_file(self):
    rows = 400_000
    width = 16
    columns = d4rl_columns.make(
        ('-' * 99 + 't') * (rows // 100),
        observations=np.zeros([rows, width], np.float32),
    )
    with h5py.File(self._path, 'w') as file:
      for name, array in columns.items():
        file.create_dataset(
            name, data=array, chunks=(8192,) + array.shape[1:]
        )
    del columns
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    count = sum(1 for _ in reading.read_episodes(self._path))
    _, peak = tracemalloc.get_traced_memory()
    self.assertEqual(count, rows // 100)
    self.assertLess(peak, rows * width * 4 / 2)

  def test_episodes_with_pictures_in_a_file_take_little_memory(self):
    rows, shape = 4_000, (100, 100, 3)
    columns = d4rl_columns.make(('-' * 99 + 't') * (rows // 100))
    del columns['observations']
    with h5py.File(self._path, 'w') as file:
      for name, array in columns.items():
        file[name] = array
      pictures = file.create_dataset(
          'observations/picture', (rows, *shape), np.uint8, chunks=(10, *shape)
      )
      pictures[150] = 7
    directory = self.create_tempdir().full_path
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    episodes = list(
        reading.read_episodes(
            self._path,
            make_store=lambda n: picture_store.PictureStore(n, directory, 0),
        )
    )
    _, peak = tracemalloc.get_traced_memory()
    self.assertLen(episodes, rows // 100)
    self.assertEqual(episodes[1].observation['picture'][50].min(), 7)
    self.assertEqual(episodes[1].observation['picture'].sum(), 7 * 30_000)
    self.assertLess(peak, rows * np.prod(shape) / 2)

  def test_binary_rewards_end_an_episode_at_its_first_success(self):
    self._write(
        d4rl_columns.make(
            '-----t-t', rewards=np.array([3, 20, 3, 20, 3, 3, 3, 3], np.float32)
        )
    )
    first, second = self._read(is_binary=True, success_reward=15.0)

    self.assertEqual(first.reward.tolist(), [0, 1])
    self.assertEqual(first.discount.tolist(), [1, 0])
    self.assertEqual(first.success.tolist(), [False, True])
    self.assertLen(first.observation, 3)
    self.assertTrue(first.has_last_transition)
    self.assertEqual(second.reward.tolist(), [0, 0])
    self.assertEqual(second.discount.tolist(), [1, 1])
    self.assertFalse(second.has_last_transition)

  def test_gin_binds_the_options(self):
    self.addCleanup(gin.clear_config)
    gin.clear_config()  # Another test may have locked it.
    gin.parse_config('dataset.clip_actions = True')
    self._write(d4rl_columns.make(actions=np.full([7, 1], 1.5, np.float32)))
    self.assertLen(self._read(), 3)


class RefuseTest(D4rlTest):

  def test_missing_file(self):
    with self.assertRaisesRegex(ValueError, 'data.hdf5: there is no such file'):
      reading.read_episodes(self._path)

  def test_all_faults_are_reported_together(self):
    columns = d4rl_columns.make()
    columns['observations'][1] = np.nan
    columns['actions'][2] = 3
    self._write(columns)
    with self.assertRaisesRegex(ValueError, '(?s)`observations`.*`actions`'):
      reading.read_episodes(self._path)

  def test_invalid_bounds(self):
    self._write(d4rl_columns.make())
    for bounds in ((1.0, -1.0), (-np.inf, 1.0)):
      with self.assertRaisesRegex(ValueError, 'finite .* with low < high'):
        reading.read_episodes(self._path, action_bounds=bounds)

  def test_bounds_of_another_number_of_actions(self):
    self._write(d4rl_columns.make())
    bounds = ([-1.0, -2.0, -3.0], [1.0, 2.0, 3.0])
    for spec in None, _ACTION_SPEC:
      with self.assertRaisesRegex(ValueError, '`actions` must have 3 numbers'):
        reading.read_episodes(
            self._path, action_spec=spec, action_bounds=bounds
        )
    reading.read_episodes(self._path, action_bounds=([-1.0], [1.0]))
    for bounds in ((-2, 2), (-3, 3), (0, 1)), ((-1.0, -2.0), (1.0, 2.0, 3.0)):
      with self.assertRaisesRegex(ValueError, 'one number per action dim'):
        reading.read_episodes(self._path, action_bounds=bounds)

  def test_spec_of_a_dict(self):
    self._write(d4rl_columns.make())
    with self.assertRaisesRegex(
        ValueError, r"`observations` must have the parts \['place'\]"
    ):
      reading.read_episodes(
          self._path, observation_spec={'place': _OBSERVATION_SPEC}
      )

  def test_parts_of_an_observation_that_is_one_array(self):
    columns = d4rl_columns.make()
    columns['observations/place'] = columns.pop('observations')
    self._write(columns)
    with self.assertRaisesRegex(
        ValueError,
        r"`observations` must be one array.* got the parts .*place'\]",
    ):
      reading.read_episodes(self._path, observation_spec=_OBSERVATION_SPEC)

  def test_a_fault_stops_the_call_before_the_first_episode(self):
    self._write(d4rl_columns.make(actions=None))
    with self.assertRaisesRegex(ValueError, 'data.hdf5: `actions`.*missing'):
      reading.read_episodes(self._path)

  def test_specs_fix_the_widths(self):
    self._write(d4rl_columns.make())
    for spec in ('observation_spec', 'action_spec'):
      with self.assertRaisesRegex(ValueError, r'shape \(7, 5\), got'):
        reading.read_episodes(
            self._path, **{spec: specs.Array((5,), np.float32)}
        )

  def test_specs_fix_the_dtypes(self):
    self._write(d4rl_columns.make())
    spec = specs.Array((2,), np.uint8)
    with self.assertRaisesRegex(ValueError, 'must be uint8, .* got .*float32'):
      reading.read_episodes(self._path, observation_spec=spec)


class WriteTest(D4rlTest):

  def test_written_episodes_are_read_back(self):
    written = [
        _episode([0, 1, 2], True, 0),
        _episode([5, 6, 7, 8], False, 1),
    ]
    d4rl_columns.write_episodes(self._path, written)
    for seen, expected in zip(self._read(), written, strict=True):
      for field in ('observation', 'reward', 'discount', 'success'):
        np.testing.assert_array_equal(
            getattr(seen, field), getattr(expected, field)
        )
      np.testing.assert_allclose(seen.action, expected.action, atol=1e-7)
      self.assertEqual(seen.episode_id, expected.episode_id)
      self.assertTrue(seen.has_last_transition)

  def test_the_layout_matches_d4rl(self):
    d4rl_columns.write_episodes(
        self._path, [_episode([0, 1], True), _episode([2, 3, 4], False)],
        metadata={'domain': 'line', 'seed': 3},
    )
    with h5py.File(self._path, 'r') as file:
      self.assertEqual(file['observations'][:, 0].tolist(), [0, 2, 3])
      self.assertEqual(file['next_observations'][:, 0].tolist(), [1, 3, 4])
      self.assertEqual(file['terminals'][:].tolist(), [True, False, False])
      self.assertEqual(file['timeouts'][:].tolist(), [False, False, True])
      for name in ('observations', 'actions', 'rewards'):
        self.assertEqual(file[name].dtype, np.float32)
        self.assertEqual(file[name].compression, 'gzip')
      for name in ('terminals', 'timeouts', 'infos/success'):
        self.assertEqual(file[name].dtype, np.bool_)
      # d4rl's own reader treats every HDF5 dataset as a column.
      self.assertEmpty(file['metadata'].keys())
      self.assertEqual(
          dict(file['metadata'].attrs), {'domain': 'line', 'seed': 3}
      )

  def test_infos_are_columns(self):
    with writer.EpisodeFile(self._path) as file:
      file.append(_episode([0, 1, 2], True), {'goal': np.ones([2, 2])})
      file.append(_episode([0, 1], True), {'goal': np.zeros([1, 2])})
    with h5py.File(self._path, 'r') as file:
      self.assertEqual(file['infos/goal'][:, 0].tolist(), [1, 1, 0])

  def test_episodes_longer_than_a_chunk_are_written_completely(self):
    written = [_episode(np.arange(102) + i, False, i) for i in range(200)]
    d4rl_columns.write_episodes(self._path, written)
    found = self._read()
    self.assertLen(found, 200)
    self.assertEqual(found[-1].observation[-1, 0], 199 + 101)

  def test_next_observations_can_be_omitted(self):
    self._write(d4rl_columns.make())
    found = self._read()
    d4rl_columns.write_episodes(self._path, found, has_next_observations=False)
    self.assertEqual(
        [e.has_last_transition for e in self._read()], [True, False, False]
    )

  def test_an_episode_without_last_observation_is_an_error(self):
    episode = _episode([0, 1], False, 4, has_last_transition=False)
    with self.assertRaisesRegex(ValueError, 'episode 4.*last observation'):
      d4rl_columns.write_episodes(self._path, [episode])

  def test_infos_must_be_the_same_in_every_episode(self):
    with self.assertRaisesRegex(ValueError, "infos/goal.*episode|episode.*got"):
      with writer.EpisodeFile(self._path) as file:
        file.append(_episode([0, 1], True), {'goal': np.ones([1, 2])})
        file.append(_episode([0, 1], True, 1))

  def test_infos_must_have_one_row_per_step(self):
    with self.assertRaisesRegex(ValueError, r'infos/goal.*\(2, 2\).*\(1, 2\)'):
      with writer.EpisodeFile(self._path) as file:
        file.append(_episode([0, 1, 2], True), {'goal': np.ones([1, 2])})

  def test_nested_observations_are_read_back(self):
    parts = {
        'state': np.arange(6, dtype=np.float32).reshape(3, 2),
        'image': np.arange(36, dtype=np.uint8).reshape(3, 2, 2, 3),
        'text': np.array([[7, 0], [7, 0], [255, 1]], np.uint8),
    }
    written = _episode([0, 1, 2], False)._replace(observation=parts)
    d4rl_columns.write_episodes(self._path, [written])

    (episode,) = self._read()
    self.assertEqual(set(episode.observation), set(parts))
    for name, array in parts.items():
      np.testing.assert_array_equal(episode.observation[name], array)
      self.assertEqual(episode.observation[name].dtype, array.dtype)
    (episode,) = self._read(
        observation_spec={'state': specs.Array((2,), np.float32)}
    )
    self.assertEqual(set(episode.observation), {'state'})

  def test_deeper_nests_of_observations_are_an_error(self):
    nest = {'a': {'b': np.zeros([2, 1], np.float32)}}
    written = _episode([0, 1], True)._replace(observation=nest)
    with self.assertRaisesRegex(ValueError, '`observations/a` must be an arr'):
      d4rl_columns.write_episodes(self._path, [written])


if __name__ == '__main__':
  absltest.main()
