"""Tests of reading OGBench's .npz files."""

import tracemalloc
from unittest import mock
import zipfile

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import numpy as np

from parl_tf.datasets import formats
from parl_tf.datasets import rows
from tests.datasets import dataset_case


def _make(ends='--e-e', **changes):
  """Returns members with one row per character of `ends`.

  Args:
    ends: One character per row; e ends a trajectory.
    **changes: Members to replace; None removes a member.
  """
  num_rows = len(ends)
  members = {
      'observations': np.arange(2 * num_rows, dtype=np.float32).reshape(
          num_rows, 2
      ),
      'actions': np.full([num_rows, 1], 0.5, np.float32),
      'rewards': np.full([num_rows], -1, np.float32),
      'terminals': np.array([x == 'e' for x in ends]),
      'qpos': np.zeros([num_rows, 7], np.float32),
  }
  members.update(changes)
  return {name: x for name, x in members.items() if x is not None}


class OgbenchNpzTest(dataset_case.DatasetCase):

  file_name = 'data.npz'

  def _write(self, members, save=np.savez):
    save(self._path, **members)


class ReadTest(OgbenchNpzTest):

  @parameterized.parameters(np.savez, np.savez_compressed)
  def test_trajectories_end_with_timeouts(self, save):
    rewards = np.array([-1, -2, 3, -4, -5], np.float32)
    self._write(_make(rewards=rewards), save)
    first, second = self._read()
    # The last row of a trajectory has a state but no next state.
    self.assertEqual(
        first.observation.tolist(), [[0, 1], [2, 3], [4, 5], [4, 5]]
    )
    self.assertEqual(first.reward.tolist(), [-1, -2, 3])
    self.assertEqual(first.discount.tolist(), [1, 1, 1])
    self.assertEqual(first.success.tolist(), [False, False, True])
    self.assertEqual(first.action.tolist(), [[0.5]] * 3)
    self.assertFalse(first.has_last_transition)
    self.assertEqual(first.num_transitions, 2)
    self.assertEqual(second.observation.tolist(), [[6, 7], [8, 9], [8, 9]])
    self.assertEqual(second.discount.tolist(), [1, 1])

  def test_next_observations_are_used_if_the_file_has_them(self):
    columns = _make('-e-e')
    following = np.roll(columns['observations'], -1, axis=0)
    following[1], following[3] = 71, 73
    self._write({**columns, 'next_observations': following})
    first, second = self._read()
    self.assertEqual(first.observation.tolist(), [[0, 1], [2, 3], [71, 71]])
    self.assertEqual(second.observation[-1].tolist(), [73, 73])
    self.assertTrue(second.has_last_transition)

  def test_a_solved_step_is_terminal_anywhere_in_a_trajectory(self):
    masks = np.array([1, 0, 0, 1, 1, 0], np.float32)
    rewards = masks * -1
    self._write(_make('----ee', masks=masks, rewards=rewards))
    found = self._read()
    self.assertEqual(
        [x.discount.tolist() for x in found], [[1, 0], [0], [1, 1], [0]]
    )
    self.assertEqual(
        [x.success.tolist() for x in found],
        [[False, True], [True], [False, False], [True]],
    )
    self.assertEqual(
        [x.has_last_transition for x in found], [True, True, False, True]
    )
    self.assertEqual(found[1].reward.tolist(), [0])
    self.assertEqual(
        [x.is_continued for x in found], [True, True, False, False]
    )

  def test_trajectories_of_a_compact_file_end_at_invalid_rows(self):
    self._write(_make('-ee-ee', valids=np.array([1.0, 1, 0, 1, 1, 0])))
    self.assertEqual([x.num_steps for x in self._read()], [3, 3])

  def test_statistics(self):
    masks = np.array([1, 1, 1, 1, 0], np.float32)
    self._write(_make(masks=masks, rewards=masks * -1))
    found = self._check_figures(
        "OGBench's npz", num_terminals=1, num_timeouts=1, lengths=[3, 2],
        returns=[-3, -1], successes=[False, True],
    )
    self.assertEqual(found.shapes, {
        'observations': (5, 2), 'actions': (5, 1), 'rewards': (5,),
        'terminals': (5,), 'masks': (5,),
    })

  @parameterized.parameters(np.bool_, np.float32, np.int64)
  def test_flags_may_be_numbers(self, dtype):
    members = _make(masks=np.ones([5], dtype))
    members['terminals'] = members['terminals'].astype(dtype)
    self._write(members)
    self.assertEqual([x.num_steps for x in self._read()], [3, 2])

  def test_success_field_can_be_named(self):
    self._write(_make(solved=np.arange(5) == 1))
    first, _ = self._read(success_field='solved')
    self.assertEqual(first.success.tolist(), [False, True, False])
    self.assertRegex(self._faults(success_field='won')[0], '`won`.*missing')
    # It comes before the masks.
    self._write(_make(solved=np.arange(5) == 1, masks=np.ones([5])))
    first, _ = self._read(success_field='solved')
    self.assertEqual(first.success.tolist(), [False, True, False])
    self.assertRegex(self._faults(success_field='won')[0], '`won`.*missing')

  @parameterized.parameters(np.float16, np.float64)
  def test_other_floats_are_cast(self, dtype):
    members = _make()
    members['observations'] = members['observations'].astype(dtype)
    self._write(members)
    self.assertEqual(self._read()[0].observation.dtype, np.float32)

  def test_images_stay_bytes(self):
    images = np.arange(60, dtype=np.uint8).reshape([5, 2, 2, 3])
    self._write(_make(observations=images))
    _, second = self._read()
    self.assertEqual(second.observation.dtype, np.uint8)
    np.testing.assert_array_equal(second.observation[:-1], images[3:])

  def test_an_episode_can_span_many_reads(self):
    members = _make('-' * 39_999 + 'e')
    self._write(members)
    episode, = self._read()
    np.testing.assert_array_equal(
        episode.observation[:-1], members['observations']
    )

  @parameterized.parameters(np.savez, np.savez_compressed)
  def test_memory_does_not_grow_with_the_file(self, save):
    num_rows, width = 400_000, 16
    self._write(
        _make(
            ('-' * 99 + 'e') * (num_rows // 100),
            observations=np.zeros([num_rows, width], np.float32),
            qpos=None,
        ),
        save,
    )
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    with formats.open_source(self._path, rows.Layout()) as source:
      count = sum(len(x['rewards']) for x in source.read())
    _, peak = tracemalloc.get_traced_memory()
    self.assertEqual(count, num_rows)
    self.assertLess(peak, num_rows * width * 4 / 4)

  def test_unused_members_are_not_opened(self):
    self._write(_make())
    opened = []
    open_member = zipfile.ZipFile.open

    def record(archive, name, *args, **kwargs):
      opened.append(name)
      return open_member(archive, name, *args, **kwargs)

    with mock.patch.object(zipfile.ZipFile, 'open', record):
      self._read()
    self.assertEqual(set(opened), {
        'observations.npy', 'actions.npy', 'rewards.npy', 'terminals.npy'
    })


class FaultTest(OgbenchNpzTest):

  @parameterized.parameters(
      'observations', 'actions', 'rewards', 'terminals'
  )
  def test_missing_member(self, name):
    self._write(_make(**{name: None}))
    self.assertRegex(
        self._faults()[0], f'data.npz: `{name}` is required but missing'
    )

  @parameterized.parameters(
      ('actions', np.zeros([4, 1], np.float32), r'\(5, n\), got \(4, 1\)'),
      ('rewards', np.zeros([6], np.float32), r'\(5,\).*got \(6,\)'),
      ('terminals', np.zeros([6], np.bool_), r'\(5,\).*got \(6,\)'),
      ('masks', np.zeros([6], np.float32), r'\(5,\).*got \(6,\)'),
      ('valids', np.zeros([6], np.float32), r'\(5,\).*got \(6,\)'),
      ('next_observations', np.zeros([4, 2], np.float32),
       r'\(5, 2\), got \(4, 2\)'),
  )
  def test_unequal_lengths(self, name, array, message):
    self._write(_make(**{name: array}))
    self.assertRegex(
        self._faults()[0], f'data.npz: `{name}` must have shape {message}'
    )

  @parameterized.parameters(
      ('terminals', np.array([0, 0, 2, 0, 1]), 'row 2 has value 2'),
      ('masks', np.array([1, 1, 0.25, 1, 1]), 'row 2 has value 0.75'),
      ('valids', np.array([1, 1, 0.25, 1, 1]), 'row 2 has value 0.75'),
  )
  def test_flags_other_than_0_and_1(self, name, array, message):
    self._write(_make(**{name: array}))
    self.assertRegex(
        self._faults()[0], f'`{name}` must be 0 or 1; {message}'
    )

  @parameterized.parameters(
      ('actions', np.zeros([5, 1], np.int64), '`actions` must be floating'),
      ('observations', np.array([None] * 5), '`observations`.*objects'),
      ('observations', np.zeros([2, 5], np.float32).T, '`observations`.*row'),
  )
  def test_unsupported_arrays(self, name, array, message):
    self._write(_make(**{name: array}))
    self.assertRegex(self._faults()[0], 'data.npz: ' + message)

  def test_nested_observations_are_not_supported(self):
    self._write(_make())
    with self.assertRaisesRegex(ValueError, r"have the parts \['place'\]"):
      self._read(observation_spec={'place': specs.Array((2,), np.float32)})

  def test_columns_of_d4rl_are_refused(self):
    self._write({**_make(), 'timeouts': np.zeros([5])})
    self.assertRegex(self._faults()[0], '`timeouts` must be absent')

  def test_no_rows(self):
    self._write(_make(''))
    self.assertRegex(self._faults()[0], '`observations`.*at least one row')

  @parameterized.parameters(0.0, 0.05, 0.5, 0.99)
  def test_truncated_file(self, share):
    self._write(_make('-' * 500 + 'e'))
    self._check_cut_short(
        self._path, share, 'data.npz: .*truncated or corrupt'
    )

  @parameterized.parameters(np.savez, np.savez_compressed)
  def test_corruption_inside_a_member(self, save):
    self._write(_make('-' * 5_000 + 'e', qpos=None), save)
    with open(self._path, 'r+b') as file:
      file.seek(2_000)
      file.write(b'\x55' * 16)
    self.assertRegex(
        self._faults()[0], 'data.npz: `observations`.*truncated or corrupt'
    )

  def test_corruption_anywhere_is_reported_or_harmless(self):
    self._write(_make())
    self._check_damage_anywhere(self._path)


if __name__ == '__main__':
  absltest.main()
