"""Tests of the conversion of datasets to one file."""

import os
from unittest import mock

from absl import logging
from absl.testing import absltest
import gin
import h5py
import numpy as np

from parl_tf.datasets import conversion
from parl_tf.datasets import d4rl
from parl_tf.datasets import d4rl_writer
from parl_tf.datasets import lerobot_writer
from parl_tf.datasets import reading
from tests.datasets import d4rl_columns

_PLAY = {
    'infos/task_rewards': np.array(
        [[-1, -3], [0, -3], [-1, -3], [-1, -4]], np.float32
    ),
    'infos/task_successes': np.array(
        [[0, 0], [1, 0], [0, 0], [0, 1]], np.bool_
    ),
}


class ConversionTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._folder = self.create_tempdir().full_path
    self._output = os.path.join(self._folder, 'output.hdf5')

  def _write(self, name, *args, **changes):
    path = os.path.join(self._folder, name)
    d4rl_columns.write(path, d4rl_columns.make(*args, **changes))
    return path

  def _write_npz(self, terminals, masks):
    """Writes OGBench's format; a mask of 0 is a success."""
    path = os.path.join(self._folder, 'a.npz')
    np.savez(
        path,
        observations=np.arange(len(masks), dtype=np.float32)[:, np.newaxis],
        actions=np.zeros([len(masks), 1], np.float32),
        rewards=-np.float32(masks),
        terminals=np.float32(terminals),
        masks=np.float32(masks),
    )
    return path

  def _read(self, **options):
    return list(reading.read_episodes(self._output, **options))

  def test_play_keeps_the_rewards_and_successes_of_all_tasks(self):
    paths = [self._write(name, '-t-t', **_PLAY) for name in ('a', 'b')]
    # Names without an extension are recognised by their contents.
    conversion.convert(paths, self._output)

    solved, unsolved = [0.0], [1.0]
    self.assertEqual(
        [x.reward.tolist() for x in self._read(task=0)],
        2 * [[-1, 0], [-1, -1]],
    )
    self.assertEqual(
        [x.discount[-1:].tolist() for x in self._read(task=1)],
        2 * [unsolved, solved],
    )

  def test_an_episode_that_success_ends_within_a_recording_is_continued(self):
    path = self._write('a', '---t', **_PLAY)
    for task, lengths in ((0, [2, 2]), (1, [4])):
      found = list(reading.read_episodes(path, task=task))
      self.assertEqual([x.num_steps for x in found], lengths)
      self.assertEqual(
          [x.is_continued for x in found], [True] * (len(found) - 1) + [False]
      )

  def test_continuations_are_kept(self):
    # Success in the second step.
    path = self._write_npz(terminals=[0, 0, 0, 0, 1], masks=[1, 0, 1, 1, 1])
    conversion.convert([path], self._output)

    (kept,) = {
        tuple((x.num_steps, x.is_continued) for x in episodes)
        for episodes in (self._read(), reading.read_episodes(path))
    }
    self.assertEqual([x for _, x in kept], [True, False])

  def test_recordings_of_different_datasets_stay_apart(self):
    # Success in the last step, which no end follows.
    path = self._write_npz(terminals=[0, 0, 0], masks=[1, 1, 0])
    conversion.convert([path, path], self._output)
    self.assertEqual([x.is_continued for x in self._read()], 2 * [False])

  def test_the_names_of_any_number_of_datasets_fit(self):
    path = self._write('a', '-t')
    with mock.patch.object(
        d4rl_writer, 'EpisodeFile', wraps=d4rl_writer.EpisodeFile
    ) as files:
      conversion.convert([path, path], self._output)
    metadata = files.call_args.kwargs['metadata']
    self.assertEqual(metadata['converted_from'], 'a\na')
    # More than HDF5 accepts in a list.
    many = {'converted_from': '\n'.join(5_000 * ['a'])}
    with d4rl_writer.EpisodeFile(self._output, metadata=many) as file:
      file.append(d4rl_columns.make_episode([0, 1], True))

  def test_play_does_not_become_binary(self):
    path = self._write('a', '-t-t', **_PLAY)
    gin.parse_config('dataset.is_binary = True')
    with self.assertRaisesRegex(ValueError, '`dataset.is_binary` must be'):
      conversion.convert([path], self._output)

  def test_play_and_other_data_do_not_mix(self):
    paths = [self._write('a', '-t-t', **_PLAY), self._write('b', '-t-t')]
    with self.assertRaisesRegex(ValueError, 'task_rewards'):
      conversion.convert(paths, self._output)

  def test_without_bindings_units_and_success_stay_open(self):
    rewards = np.array([0.2, 0.95, 0.2, 0.2], np.float32)
    path = self._write('a', '-t-t', rewards=rewards)
    conversion.convert([path], self._output)

    options = dict(action_bounds=(-2.0, 2.0), success_reward=0.9)
    found = self._read(**options)
    for one, other in zip(found, reading.read_episodes(path, **options)):
      np.testing.assert_allclose(one.action, other.action, atol=1e-6)
      np.testing.assert_array_equal(one.success, other.success)
    self.assertEqual([x.success.tolist() for x in found], [[0, 1], [0, 0]])
    self.assertEqual(found[0].action[0], -0.5)

  def test_actions_in_unknown_units_are_copied(self):
    actions = np.array([[-7.0], [3.0], [0.5], [9.0]], np.float32)
    path = self._write('a', '-t-t', actions=actions)
    conversion.convert([path], self._output)

    found = self._read(action_bounds=(-10.0, 10.0))
    np.testing.assert_allclose(
        np.concatenate([x.action for x in found]), actions / 10.0, atol=1e-6
    )
    with self.assertRaisesRegex(ValueError, r'must be in \[-1.0, 1.0\]'):
      self._read()

  def test_bound_clipping_is_applied(self):
    actions = np.array([[-7.0], [1.0], [0.5], [9.0]], np.float32)
    path = self._write('a', '-t-t', actions=actions)
    gin.parse_config('dataset.clip_actions = True')
    conversion.convert([path], self._output)

    gin.clear_config()
    np.testing.assert_array_equal(
        np.concatenate([x.action for x in self._read()]), actions.clip(-1, 1)
    )

  def test_bound_units_and_success_are_stored(self):
    rewards = np.array([0.2, 0.95, 0.2, 0.2], np.float32)
    path = self._write('a', '-t-t', rewards=rewards)
    gin.parse_config(
        'dataset.action_bounds = (-2.0, 2.0)\ndataset.success_reward = 0.9'
    )
    conversion.convert([path], self._output)

    found = self._read(action_bounds=(-4.0, 4.0))
    self.assertEqual([x.success.tolist() for x in found], [[0, 1], [0, 0]])
    self.assertEqual(found[0].action[0], -0.5)

  def test_units_that_are_known_for_one_file_only_are_refused(self):
    own = os.path.join(self._folder, 'own.hdf5')
    d4rl_columns.write_episodes(
        own, [d4rl_columns.make_episode([0, 1, 2], True)]
    )
    paths = [own, self._write('other.hdf5', '-t')]
    for write in (lambda: conversion.convert(paths, self._output),
                  lambda: conversion.read(paths)):
      with self.assertRaisesRegex(
          ValueError, r'`dataset.action_bounds` must be .* those of \S*own.hdf5'
      ):
        write()
    self.assertFalse(os.path.exists(self._output))

    gin.parse_config(
        'dataset.action_bounds = (-1.0, 1.0)\ndataset.success_reward = 0.5'
    )
    conversion.convert(paths, self._output)
    self.assertLen(self._read(), 2)

  def test_successes_that_are_known_for_one_file_only_are_refused(self):
    success = np.array([0, 1, 0, 0], np.bool_)
    paths = [
        self._write('a.hdf5', '-t-t', **{'infos/success': success}),
        self._write('b.hdf5', '-t'),
    ]
    with self.assertRaisesRegex(
        ValueError, r'`dataset.success_reward` must be .* those of \S*a.hdf5\.'
    ):
      conversion.convert(paths, self._output)
    self.assertFalse(os.path.exists(self._output))

    gin.parse_config('dataset.success_reward = 0.5')
    conversion.convert(paths, self._output)
    self.assertLen(self._read(), 3)

  def test_images_of_bytes_and_of_floats_are_refused(self):
    images = np.full([4, 5, 5, 3], 200, np.uint8)
    paths = [
        self._write('a.hdf5', '-t-t', observations=images),
        self._write('b.hdf5', '-t-t', observations=images / np.float32(255.0)),
    ]
    with self.assertRaisesRegex(
        ValueError, '`observations` must have dtype uint8.*got float32'
    ):
      conversion.convert(paths, self._output)
    self.assertFalse(os.path.exists(self._output))

  def test_parts_of_parts_of_an_observation_are_kept(self):
    parts = {
        f'{name}/goal/kettle': np.arange(i, i + 4.0)[:, np.newaxis]
        for i, name in enumerate(['observations', 'next_observations'])
    }
    path = self._write('a', '-t-t', observations=None, **parts)
    conversion.convert([path], self._output)

    (first, _) = self._read()
    self.assertEqual(list(first.observation), ['goal/kettle'])
    with h5py.File(self._output) as file:
      self.assertEqual(file['observations/goal/kettle'].shape, (4, 1))

  def test_the_last_observation_of_an_episode_may_be_unknown(self):
    # As in D4RL's own files: the first is terminal, the others time out.
    conversion.convert([self._write('a', '--T-t--')], self._output)
    after = self._read()
    self.assertEqual([e.num_steps for e in after], [3, 2, 2])
    self.assertEqual(
        [e.has_last_transition for e in after], [True, False, False]
    )

  def test_lost_last_observations_are_warned_of(self):
    observations = np.zeros([4, 2], np.float32)
    known = self._write(
        'a', '-t-T', observations=observations, next_observations=observations
    )
    unknown = self._write('b', '-T-t')
    logger = logging.get_absl_logger()
    with self.assertLogs(logger, 'WARNING') as logs:
      conversion.convert([known, unknown], self._output)
    self.assertRegex(logs.output[0], 'last observations of 1 episodes')
    with self.assertNoLogs(logger, 'WARNING'):
      conversion.convert([known], self._output)
      conversion.convert([unknown], self._output)

  def test_the_bounds_of_recordings_are_kept_and_must_agree(self):
    paths = []
    for name, scale in ('a', 1.0), ('b', 1.0), ('c', 2.0):
      paths.append(os.path.join(self._folder, name))
      bounds = scale * np.float32([[-1.0, -0.5], [1.0, 0.5]])
      d4rl_columns.write_episodes(
          paths[-1],
          [d4rl_columns.make_episode([0, 1], True)],
          metadata={d4rl.BOUNDS: bounds},
      )
    conversion.convert(paths[:2], self._output)
    with h5py.File(self._output) as file:
      np.testing.assert_array_equal(
          file['metadata'].attrs[d4rl.BOUNDS], bounds / 2.0
      )
    with self.assertRaisesRegex(ValueError, 'the same bounds of actions, got'):
      conversion.convert(paths, self._output)
    gin.parse_config('dataset.every_episode_succeeds = True')
    conversion.convert(paths[2:], self._output)
    with h5py.File(self._output) as file:
      np.testing.assert_array_equal(
          file['metadata'].attrs[d4rl.BOUNDS], bounds
      )

  def test_a_lerobot_dataset_and_its_source_fit(self):
    gin.parse_config('dataset.action_bounds = (-1.0, 1.0)')
    path = self._write('source', '-t')
    (episode,) = reading.read_episodes(path)
    copy = os.path.join(self._folder, 'copy')
    lerobot_writer.write(
        copy, [episode], rate=10, instruction='', has_successes=False
    )
    conversion.convert([path, copy], self._output)
    first, second = self._read()
    np.testing.assert_array_equal(
        first.observation[:2], second.observation[:2]
    )

  def test_rewards_of_other_scales_are_warned_of(self):
    zero_one = self._write('a', '-t-t', rewards=np.array([0, 1, 0, 0]))
    minus_one = self._write('b', '-t-t', rewards=np.array([-1, 0, -1, -1]))
    failures = self._write('c', '-t-t', rewards=np.zeros([4]))
    dense = self._write('d', '-t-t', rewards=np.array([-3, 0.5, -1, -1]))

    def warnings(*paths):
      with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
        list(conversion.read(paths).episodes)
        conversion.convert(paths, self._output)
      return [x for x in logs.output if 'The rewards of' in x]

    [first, second] = warnings(failures, zero_one, minus_one)
    self.assertEqual(first, second)
    self.assertRegex(
        first,
        r'of \S+/b are between -1 and 0, those of \S+/a between 0 and 1',
    )
    self.assertLen(warnings(minus_one, zero_one), 2)
    for paths in (
        (failures, zero_one), (minus_one, dense), (minus_one, failures, dense)
    ):
      self.assertEmpty(warnings(*paths))


if __name__ == '__main__':
  absltest.main()
