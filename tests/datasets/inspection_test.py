"""Tests of the statistics and faults of files in D4RL's layout."""

import os
import tracemalloc

from absl.testing import absltest
from absl.testing import parameterized
import h5py
import numpy as np

from parl_tf.datasets import d4rl
from parl_tf.datasets import inspection
from parl_tf.datasets import reading
from parl_tf.datasets import row_scan
from parl_tf.datasets import rows
from tests.datasets import d4rl_columns
from tests.datasets import dataset_case


class InspectionTest(dataset_case.DatasetCase):

  def _write(self, num_rows, terminals, timeouts, rewards, actions):
    with h5py.File(self._path, 'w') as file:
      file['observations'] = np.arange(num_rows, dtype=np.float32)[:, None]
      file['actions'] = np.asarray(actions, np.float32)
      file['rewards'] = np.asarray(rewards, np.float32)
      file['terminals'] = np.isin(np.arange(num_rows), terminals)
      file['timeouts'] = np.isin(np.arange(num_rows), timeouts)

  def test_actions_of_another_unit_are_hinted_at(self):
    for greatest, hint in ((0.04, '0.04, 4.0% of'), (0.06, '^$'), (0.0, '^$')):
      self._write(2, [1], [], [0, 1], [[0.0, greatest], [0.0, -greatest / 4]])
      self.assertRegex(inspection.inspect(self._path).action_hint, hint)

  def test_actions_that_the_library_wrote_are_in_its_unit(self):
    self._write(2, [1], [], [0, 1], [[0.0, 0.9], [0.0, -0.9]])
    layout = reading.make_layout(action_bounds=(-100.0, 100.0))
    self.assertTrue(inspection.inspect(self._path, layout).action_hint)
    with h5py.File(self._path, 'a') as file:
      file.attrs[d4rl.UNIT_ACTIONS] = True
    self.assertEmpty(inspection.inspect(self._path, layout).action_hint)

  def test_statistics(self):
    # Episodes: rows 0-1 (terminal), 2-4 (timeout), 5 (no end).
    self._write(
        6, [1], [4], [0, 1, 0.25, 0, -0.5, 0],
        [[0, 0.5], [1, -1], [0.5, 0], [0, 0], [0, 0], [0, 0]],
    )
    found = inspection.inspect(self._path)
    self.assertEmpty(found.faults)
    self.assertEqual(found.num_rows, 6)
    self.assertEqual(found.num_terminals, 1)
    self.assertEqual(found.num_timeouts, 1)
    self.assertEqual(found.num_trailing_rows, 1)
    self.assertEqual(found.lengths.tolist(), [2, 3, 1])
    self.assertEqual(found.returns.tolist(), [1.0, -0.25, 0.0])
    self.assertEqual(found.successes.tolist(), [True, True, False])
    self.assertEqual(found.observation_ranges['observations'][0].tolist(), [0])
    self.assertEqual(found.observation_ranges['observations'][1].tolist(), [5])
    self.assertEqual(found.action_range[0].tolist(), [0, -1])
    self.assertEqual(found.action_range[1].tolist(), [1, 0.5])
    self.assertAlmostEqual(found.saturation, 2 / 12)
    self.assertEqual(found.shapes['actions'], (6, 2))

  def test_a_file_that_ends_with_an_episode_end_has_no_trailing_rows(self):
    self._write(3, [], [2], [0, 0, 0], np.zeros([3, 1]))
    found = inspection.inspect(self._path)
    self.assertEqual(found.num_trailing_rows, 0)
    self.assertEqual(found.lengths.tolist(), [3])

  @parameterized.parameters(
      # Two of the three episodes reach 0.
      ([-1, 0, -1, 0, -1, -1], 'rewards are -1, 0. With `dataset.success_reward'
       ' = -0.5`, 2 of 3 episodes succeed'),
      ([-1, -1, -1, -1, -1, -1], 'every reward is -1. Bind `dataset.success_f'),
      # Nine different rewards count as dense.
      (-np.arange(12.0), 'rewards are -11 to 0. Bind `dataset.success_reward`'),
      ([0, 1, 0, 0, 0, 0], ''),
  )
  def test_data_without_success_names_the_binding(self, rewards, wanted):
    num_rows = len(rewards)
    self._write(
        num_rows, [], [1, 4, num_rows - 1], rewards, np.zeros([num_rows, 1])
    )
    hint = inspection.inspect(self._path).success_hint
    if wanted:
      self.assertIn('exceeds `dataset.success_reward` = 0; ' + wanted, hint)
      with self.assertLogs(level='WARNING') as logged:
        self.assertLen(list(reading.read_episodes(self._path)), 3)
      self.assertIn(hint, logged.output[0])
    else:
      self.assertEmpty(hint)

  def test_data_with_flags_that_are_never_set_names_them(self):
    columns = d4rl_columns.make(rewards=np.ones([7]))
    columns['infos/success'] = np.zeros([7], bool)
    d4rl_columns.write(self._path, columns)
    hint = inspection.inspect(self._path).success_hint
    self.assertRegex(hint, '`infos/success` is 0 in every row.*success_field')

  @parameterized.parameters(
      (0.25, 0.25, (-1.0, 1.0), True),
      (0.25, 0.3, (-1.0, 1.0), False),  # An action is beyond the task's bounds.
      (0.25, 0.25, (-0.25, 0.25), False),
      (2.0, 0.25, (-1.0, 1.0), False),
  )
  def test_actions_in_the_units_of_the_task_are_suspected(
      self, bound, greatest, stored, is_suspect
  ):
    actions = np.linspace(-0.25, greatest, 7, dtype=np.float32)[:, None]
    d4rl_columns.write(self._path, d4rl_columns.make(actions=actions))
    layout = reading.make_layout(
        raw_action_bounds=(np.array([-bound]), np.array([bound])),
        action_bounds=stored,
    )
    hint = inspection.inspect(self._path, layout).action_hint
    if is_suspect:
      self.assertRegex(hint, r'\[-0.25\] and \[0.25\].*`dataset.action_bounds`')
    else:
      self.assertEmpty(hint)

  @parameterized.parameters(16_383, 16_384, 16_385)
  def test_episodes_across_chunks_are_counted_once(self, end):
    num_rows = 20_000
    rewards = np.zeros([num_rows])
    rewards[[end - 1, end]] = 1, 2
    self._write(num_rows, [end], [19_999], rewards, np.zeros([num_rows, 1]))
    found = inspection.inspect(self._path)
    self.assertEqual(found.lengths.tolist(), [end + 1, num_rows - end - 1])
    self.assertEqual(found.returns.tolist(), [3, 0])

  def test_each_kind_of_fault_is_reported_once(self):
    self._write(4, [3], [], [np.nan] * 4, np.zeros([4, 1]))
    found = inspection.inspect(self._path)
    self.assertLen(found.faults, 1)
    self.assertIn('row 0', found.faults[0])

  def test_statistics_cover_the_rows_of_a_faulty_file(self):
    self._write(4, [1], [3], [0, 1, 0, 0], np.full([4, 1], 2.0))
    found = inspection.inspect(self._path)
    self.assertLen(found.faults, 1)
    self.assertEqual(found.lengths.tolist(), [2, 2])

  def test_a_missing_file_is_a_fault(self):
    found = inspection.inspect(self._path)
    self.assertIn('no such file', found.faults[0])
    self.assertEqual(found.num_rows, 0)


class FaultTest(dataset_case.DatasetCase):

  def _assert_fault(self, columns, message, **kwargs):
    d4rl_columns.write(self._path, columns)
    self._assert_first_fault('data.hdf5: ' + message, **kwargs)

  def _assert_first_fault(self, message, **kwargs):
    faults = self._faults(observation_shape=(2,), action_shape=(1,), **kwargs)
    self.assertRegex(faults[0], message)

  @parameterized.parameters('observations', 'actions', 'rewards', 'terminals')
  def test_missing_column(self, name):
    columns = d4rl_columns.make(**{name: None})
    other = 'actions' if name == 'rewards' else 'rewards'
    self._assert_fault(columns, rf'`{name}`.*missing.* has .*`{other}` .7,')

  @parameterized.parameters(
      ('observations', np.nan, 'row 3, entry 1 has value nan'),
      ('observations', np.inf, 'row 3, entry 1 has value inf'),
      ('actions', np.nan, 'row 3, entry 0 has value nan'),
      ('rewards', np.nan, 'row 3 has value nan'),
  )
  def test_value_that_is_not_finite(self, name, value, message):
    columns = d4rl_columns.make()
    columns[name].reshape(7, -1)[3, -1] = value
    self._assert_fault(columns, f'`{name}` must be finite.*{message}')

  def test_value_that_float32_cannot_hold(self):
    columns = d4rl_columns.make()
    columns['observations'] = columns['observations'].astype(np.float64)
    columns['observations'][3, -1] = 1e39
    self._assert_fault(columns, '`observations` must be finite.*row 3')

  def test_reward_outside_the_range_of_the_task(self):
    columns = d4rl_columns.make()
    columns['rewards'][:] = -1.0
    columns['rewards'][4] = 0.5
    self._assert_fault(
        columns,
        r"`rewards` must be in the task's `reward_range`, \[-1, 0\].*row 4",
        reward_range=(-1.0, 0.0),
    )

  def test_row_numbers_count_from_the_start_of_the_file(self):
    columns = d4rl_columns.make('-' * 19_999 + 't')
    columns['observations'][18_000, 0] = np.nan
    self._assert_fault(columns, '`observations`.*row 18000, entry 0')

  def test_actions_outside_the_bounds(self):
    columns = d4rl_columns.make()
    columns['actions'][2] = -1.25
    self._assert_fault(
        columns, r'`actions` must be in \[-1.0, 1.0\].*row 2.*value -1.25'
    )

  def test_actions_outside_the_bounds_name_those_of_the_task(self):
    columns = d4rl_columns.make()
    columns['actions'][2] = -1.25
    self._assert_fault(
        columns,
        r"`actions` must.*the task's own bounds are \(-2.5,\) and \(4.0,\)",
        raw_action_bounds=(np.array([-2.5]), np.array([4.0])),
    )

  def test_actions_outside_given_bounds(self):
    columns = d4rl_columns.make()
    self._assert_fault(
        columns, r'`actions` must be in \[-0.5, 0.5\].*row 0.*value -1.0',
        action_bounds=(-0.5, 0.5),
    )

  @parameterized.parameters(
      ('actions', np.zeros([6, 1], np.float32), r'\(7, 1\), got \(6, 1\)'),
      ('rewards', np.zeros([8], np.float32), r'\(7,\).*got \(8,\)'),
      ('terminals', np.zeros([6], np.bool_), r'\(7,\).*got \(6,\)'),
      ('timeouts', np.zeros([6], np.bool_), r'\(7,\).*got \(6,\)'),
      ('next_observations', np.zeros([6, 2], np.float32),
       r'\(7, 2\), got \(6, 2\)'),
      ('infos/success', np.zeros([6], np.bool_), r'\(7,\).*got \(6,\)'),
  )
  def test_unequal_lengths(self, name, array, message):
    self._assert_fault(
        d4rl_columns.make(**{name: array}),
        f'`{name}` must have shape {message}',
    )

  def test_wrong_observation_size(self):
    self._assert_fault(
        d4rl_columns.make(observations=np.zeros([7, 3], np.float32)),
        r'`observations` must have shape \(7, 2\), got \(7, 3\)',
    )

  def test_wrong_action_size(self):
    self._assert_fault(
        d4rl_columns.make(actions=np.zeros([7, 4], np.float32)),
        r'`actions` must have shape \(7, 1\), got \(7, 4\)',
    )

  @parameterized.parameters(
      ('observations', np.zeros([7, 2], np.int32), 'floating.*int32'),
      ('actions', np.zeros([7, 1], np.int64), 'floating.*int64'),
      ('rewards', np.array([b'a'] * 7), r'numbers.*\|S1'),
      ('terminals', np.array([b'a'] * 7), r'bool.*\|S1'),
  )
  def test_wrong_dtype(self, name, array, message):
    self._assert_fault(
        d4rl_columns.make(**{name: array}), f'`{name}` must be {message}'
    )

  def test_flags_other_than_0_and_1(self):
    self._assert_fault(
        d4rl_columns.make(terminals=np.array([0, 0, 2, 0, 0, 0, 0])),
        '`terminals` must be 0 or 1; row 2 has value 2',
    )

  def test_terminals_that_include_the_timeouts(self):
    columns = d4rl_columns.make('-T-T-tT')
    columns['timeouts'][[3, 6]] = True
    self._assert_fault(
        columns, '`timeouts` must seldom .* does in 2 of the 3 rows'
    )

  @parameterized.parameters(
      (np.float32, np.uint8, 'must be uint8, as in the task, got .*float32'),
      (np.uint8, np.float32, 'must be float32, as in the task, got .*uint8'),
      (np.int64, np.uint8, 'must be uint8, as in the task, got .*int64'),
  )
  def test_a_dtype_unlike_the_task(self, stored, wanted, message):
    columns = d4rl_columns.make()
    columns['observations'] = columns['observations'].astype(stored)
    self._assert_fault(
        columns, f'`observations` {message}', observation_dtype=wanted
    )
    columns['observations/place'] = columns.pop('observations')
    self._assert_fault(
        columns,
        f'`observations/place` {message}',
        observation_dtype={'place': wanted},
    )

  def test_no_episode_end(self):
    columns = d4rl_columns.make('-------')
    self._assert_fault(columns, '`terminals`.*ends.*7 rows')

  def test_no_rows(self):
    columns = {name: x[:0] for name, x in d4rl_columns.make().items()}
    self._assert_fault(columns, '`observations` must have at least one row')

  def test_next_observation_that_differs_from_the_next_row(self):
    columns = d4rl_columns.make()
    successors = np.roll(columns['observations'], -1, axis=0)
    successors[5] += 1  # In the last episode, which starts in row 5.
    self._assert_fault(
        {**columns, 'next_observations': successors},
        '`observations` must equal `next_observations` of the prev.*row 6',
    )

  def test_next_observations_are_compared_with_the_next_rows_read(self):
    columns = d4rl_columns.make('----')
    successors = np.roll(columns['observations'], -1, axis=0)
    successors[1] += 1
    columns['next_observations'] = successors
    scan = row_scan.RowScan('data', rows.Layout())
    for part in slice(0, 2), slice(2, 4):
      scan.add({name: x[part] for name, x in columns.items()})
    self.assertRegex('\n'.join(scan.faults), '^[^\n]*; row 2 has')

  @parameterized.parameters(1e-5, 1.0, 5e3)
  def test_next_observations_may_be_rounded_and_no_more(self, unit):
    columns = d4rl_columns.make()
    random = np.random.default_rng(0)
    exact = unit * random.uniform(1, 2, columns['observations'].shape)
    successors = np.roll(exact, -1, axis=0)
    columns['observations'] = exact.astype(np.float32)
    columns['next_observations'] = successors
    d4rl_columns.write(self._path, columns)
    self.assertEmpty(self._faults())
    shuffled = random.permutation(successors)
    self._assert_fault(
        {**columns, 'next_observations': shuffled}, '.* must equal'
    )

  def test_an_empty_column_is_a_fault(self):
    d4rl_columns.write(self._path, d4rl_columns.make())
    with h5py.File(self._path, 'a') as file:
      file['infos/success'] = h5py.Empty('f4')
    (fault,) = self._faults()
    self.assertIn('`infos/success` must have a row per step', fault)

  def test_pictures_are_compared_a_few_at_a_time(self):
    pictures = np.random.default_rng(0).integers(
        0, 256, (1_001, 16, 16, 3), np.uint8
    )
    batch = {
        **d4rl_columns.make('-' * 1_000),
        'observations': pictures[:-1],
        'next_observations': pictures[1:].copy(),
    }
    # A difference of 1 in a row is a mean of 1.3e-3.
    batch['next_observations'][700, 5, 5, 0] ^= 1
    scan = row_scan.RowScan('data', rows.Layout())
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    scan.add(batch)
    _, peak = tracemalloc.get_traced_memory()
    self.assertLen(scan.faults, 1)
    self.assertIn('`next_observations` of the previous row', scan.faults[0])
    self.assertIn('row 701 has', scan.faults[0])
    self.assertLess(peak, 2 * pictures.nbytes)

  def test_missing_success_field(self):
    self._assert_fault(
        d4rl_columns.make(),
        '`infos/solved`.*missing',
        success_field='infos/solved',
    )

  def test_group_instead_of_a_column(self):
    columns = d4rl_columns.make(rewards=None)
    self._assert_fault(
        {**columns, 'rewards/x': np.zeros([7])}, '`rewards`.*got a group'
    )

  @parameterized.parameters(0.05, 0.5, 0.99)
  def test_truncated_file(self, share):
    columns = d4rl_columns.make(('-' * 99 + 't') * 100)
    d4rl_columns.write(self._path, columns)
    os.truncate(self._path, int(os.path.getsize(self._path) * share))
    self._assert_first_fault('data.hdf5: .*truncated')

  def test_corruption_inside_a_column(self):
    columns = d4rl_columns.make(('-' * 99 + 't') * 100)
    with h5py.File(self._path, 'w') as file:
      for name, array in columns.items():
        file.create_dataset(
            name, data=array, chunks=True, compression='gzip', fletcher32=True
        )
      chunk = file['observations'].id.get_chunk_info(0)
    with open(self._path, 'r+b') as file:
      file.seek(chunk.byte_offset + chunk.size // 2)
      file.write(b'\0' * 16)
    self._assert_first_fault('data.hdf5: .*corrupt')

  def test_file_of_another_format(self):
    with open(self._path, 'w') as file:
      file.write('no data')
    self._assert_first_fault('data.hdf5: .*another format')


if __name__ == '__main__':
  absltest.main()
