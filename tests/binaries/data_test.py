"""Tests of `parl-data`."""

import os
import pathlib
import subprocess
import sys

from absl import app
from absl.testing import absltest
from dm_env import specs
import gin
import h5py
import numpy as np
import tree

from parl_tf.binaries import data
from parl_tf.binaries import dataset_commands
from parl_tf.datasets import inspection
from parl_tf.datasets import reading
from parl_tf.domains import pointmaze
from tests.datasets import d4rl_columns

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_ONE_ARRAY = dict(observation_spec=specs.Array((4,), np.float32))
_SMALL = ("PointMaze.size = 'UMaze'", 'PointMaze.max_episode_steps = 20')


def _run(*arguments):
  return subprocess.run(
      [sys.executable, '-m', 'parl_tf.binaries.data', *arguments],
      capture_output=True,
      text=True,
      check=False,
      cwd=_ROOT,
  )


class DataTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._path = os.path.join(self.create_tempdir().full_path, 'maze.hdf5')

  def _write(self, path, **kwargs):
    arguments = dict(num_steps=300, seed=3, gin_bindings=_SMALL)
    dataset_commands.write_dataset('pointmaze', path, **{**arguments, **kwargs})

  def test_generate_and_info_from_the_command_line(self):
    bindings = [f'--gin_bindings={binding}' for binding in _SMALL]
    done = _run(
        'generate', 'pointmaze', '--output', self._path, '--num_steps=120',
        '--seed=1', *bindings,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('data: 120/120', done.stderr)
    self.assertIn('no fault found', done.stdout)
    with h5py.File(self._path, 'r+') as file:
      self.assertEqual(file['metadata'].attrs['seed'], 1)
      self.assertIn("'UMaze'", file['metadata'].attrs['gin_config'])
      file['rewards'][5] = np.nan
    found = inspection.inspect(self._path)
    self.assertRegex(
        dataset_commands.describe(self._path, found),
        'FAULT .*maze.hdf5: `rewards`.*row 5 has value nan',
    )

  def test_constant_elements_of_the_actions_are_named(self):
    self._write(self._path)
    self.assertNotIn('NOTE', self._describe())
    with h5py.File(self._path, 'r+') as file:
      file['actions'][:, 1] = 0.25
    self.assertRegex(self._describe(), r'\n  NOTE .*never vary element 2 of')

  def _describe(self):
    found = inspection.inspect(self._path)
    return dataset_commands.describe(self._path, found)

  def test_data_fits_the_domain(self):
    self._write(self._path)
    domain = pointmaze.PointMaze(size='UMaze')
    found = list(
        reading.read_episodes(
            self._path,
            observation_spec=domain.observation_spec(),
            action_spec=domain.action_spec(),
        )
    )
    self.assertEqual(sum(episode.num_steps for episode in found), 300)
    self.assertTrue(any(domain.is_success(episode) for episode in found))
    with h5py.File(self._path, 'r') as file:
      np.testing.assert_array_equal(
          np.concatenate([file['infos/qpos'], file['infos/qvel']], axis=1),
          file['observations'],
      )
      self.assertEqual(file['infos/goal'].shape, (300, 2))
      # The goal is reached exactly at the terminal steps.
      np.testing.assert_array_equal(file['rewards'], file['terminals'])

  def test_one_file_of_play_has_the_rewards_of_every_goal(self):
    self._write(self._path, play=True)
    found = inspection.inspect(self._path)
    self.assertEqual(found.num_terminals, 0)
    cells = pointmaze.PointMaze(size='UMaze').maze.cells
    rewards = []
    for cell in cells:
      task = pointmaze.PointMaze(
          size='UMaze', goal_cell=cell, min_start_distance=1
      )
      episodes = list(
          reading.read_episodes(self._path, **task.dataset_options())
      )
      self.assertEqual(sum(episode.num_steps for episode in episodes), 300)
      for episode in episodes:
        # The goal ends an episode, as it does in the task.
        np.testing.assert_array_equal(episode.success, episode.discount == 0)
        is_near = (
            np.linalg.norm(
                episode.observation[1:, :2] - task.maze.position(cell), axis=1
            )
            <= 0.45
        )
        self.assertTrue(np.all(episode.success[is_near]))
      rewards.append(np.concatenate([episode.reward for episode in episodes]))
    with h5py.File(self._path) as file:
      np.testing.assert_array_equal(
          np.stack(rewards, axis=1), file['infos/task_rewards']
      )
      self.assertTrue(file['metadata'].attrs['play'])

  def test_a_seed_gives_the_same_file(self):
    other_path = self._path + '.other'
    self._write(self._path)
    gin.clear_config()
    self._write(other_path)
    with h5py.File(self._path) as first, h5py.File(other_path) as second:
      for name in ('observations', 'actions', 'terminals', 'infos/goal'):
        np.testing.assert_array_equal(first[name], second[name])

  def test_an_unknown_domain_error_lists_the_searched_paths(self):
    with self.assertRaisesRegex(FileNotFoundError, "'domains/no_such.gin'"):
      dataset_commands.write_dataset('no_such', self._path, num_steps=1, seed=0)

  def test_an_unknown_gin_name_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'colour'):
      self._write(self._path, gin_bindings=["PointMaze.colour = 'red'"])

  def test_a_gin_value_out_of_range_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'action_repeat.*0'):
      self._write(self._path, gin_bindings=['PointMaze.action_repeat = 0'])

  def test_wrong_usage_is_an_error(self):
    for arguments in ([], ['generate'], ['info'], ['polish', self._path]):
      with self.assertRaisesRegex(app.UsageError, 'parl-data generate'):
        data.main(['parl-data', *arguments])

  def test_a_flag_of_another_command_is_an_error(self):
    done = _run('info', self._path, '--num_steps=5')
    self.assertEqual(done.returncode, 2)
    self.assertIn(
        'info has no flag --num_steps, which belongs to generate.', done.stderr
    )
    done = _run('info', self._path, '--overwrite')
    self.assertIn('--overwrite, which belongs to generate and', done.stderr)
    done = _run('info', self._path, '--gamma=0.5')
    self.assertEqual(done.returncode, 2)
    self.assertIn('--gamma needs --domain.', done.stderr)
    done = _run('convert', self._path, '--output=copy.hdf5', '--fps=5')
    self.assertEqual(done.returncode, 2)
    self.assertIn('--fps needs --format lerobot.', done.stderr)

  def test_info_prints_all_files_and_fails_for_a_faulty_one(self):
    self._write(self._path)
    self.assertEqual(dataset_commands.inform([self._path]), 0)
    missing = self._path + '.no'
    self.assertEqual(dataset_commands.inform([missing, self._path]), 1)

  def test_info_of_a_task_prints_its_bound_and_any_mismatch(self):
    self._write(self._path)
    bindings = [f'--gin_bindings={binding}' for binding in _SMALL]
    done = _run('info', self._path, '--domain=pointmaze', *bindings)
    self.assertEqual(done.returncode, 0, done.stderr)
    # A policy that never reaches the goal gets -1 forever.
    self.assertRegex(done.stdout, r'bound +\[-100, .*gamma 0.99, rewards 1 r')

    # The task's gin file may also bind what only training needs.
    own = self._path + '.gin'
    with open(own, 'w', encoding='utf-8') as file:
      file.write(
          "include 'domains/pointmaze.gin'\nCritic.gamma = 0.9\n"
          'Online.num_episodes = 60\n'
      )
    done = _run('info', self._path, f'--domain={own}', *bindings)
    self.assertRegex(done.stdout, r'bound +\[-10, .*gamma 0.9, rewards 1 r')

    done = _run('info', self._path, '--domain=antmaze')
    self.assertEqual(done.returncode, 1)
    self.assertRegex(
        done.stdout, r'FAULT .*`observations` must have shape \(300, 29\)'
    )

  def test_info_of_a_task_warns_of_missing_timeouts(self):
    for play in (True, False):
      gin.clear_config()
      self._write(self._path, play=play)
      self.assertNotIn('WARNING', self._describe_for_the_task())
    with h5py.File(self._path, 'r+') as file:
      del file['timeouts'], file['next_observations']
    self.assertRegex(
        self._describe_for_the_task(),
        r'WARNING     episode \d+ has \d+ steps .* is 20 steps',
    )

  def _describe_for_the_task(self):
    task = pointmaze.PointMaze(size='UMaze', max_episode_steps=20)
    layout = reading.make_layout(**task.dataset_options())
    found = inspection.inspect(self._path, layout)
    self.assertEmpty(found.faults)
    return dataset_commands.describe(self._path, found)

  def test_convert_keeps_the_episodes(self):
    self._write(self._path)
    output = self._path + '.converted.hdf5'
    done = _run('convert', self._path, self._path, '--output', output)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('no fault found', done.stdout)
    before, after = (
        list(reading.read_episodes(path)) for path in (self._path, output)
    )
    before += [
        episode._replace(episode_id=len(before) + number)
        for number, episode in enumerate(before)
    ]
    self.assertEqual(len(before), len(after))
    for first, second in zip(before, after):
      for array, other in zip(tree.flatten(first), tree.flatten(second)):
        np.testing.assert_array_equal(array, other)

  def test_converted_actions_in_unknown_units_are_no_fault(self):
    d4rl_columns.write(
        self._path,
        d4rl_columns.make(actions=np.full([7, 1], -7.0, np.float32)),
    )
    output = self._path + '.converted.hdf5'
    done = _run('convert', self._path, '--output', output)
    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    self.assertIn('no fault found', done.stdout)
    # A file that the library wrote for a task has known units.
    self._write(self._path)
    self.assertEqual(
        dataset_commands.known_units(self._path), {'checks_actions': True}
    )

  def test_convert_to_lerobot_leaves_undefined_success_open(self):
    columns = d4rl_columns.make(rewards=np.full([7], -1.0, np.float32))
    columns['rewards'][2] = 0.0
    d4rl_columns.write(self._path, columns)
    output = self._path + '.lerobot'
    done = _run('convert', self._path, '--format=lerobot', '--output', output)
    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    before, after = (
        [
            x.success.tolist()
            for x in reading.read_episodes(path, success_reward=-0.5)
        ]
        for path in (self._path, output)
    )
    self.assertIn([False, False, True], before)
    self.assertEqual(before, after)

  def test_convert_to_lerobot_keeps_the_bounds_of_the_actions(self):
    self._write(self._path)
    output = self._path + '.lerobot'
    done = _run(
        'convert', self._path, '--format=lerobot', '--output', output,
        '--gin_bindings=dataset.action_bounds = (-3.0, 3.0)',
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('no fault found', done.stdout)
    before = list(reading.read_episodes(self._path))
    after = list(
        reading.read_episodes(
            output, action_bounds=(-3.0, 3.0), **_ONE_ARRAY
        )
    )
    self.assertEqual(len(before), len(after))
    for first, second in zip(before, after):
      np.testing.assert_allclose(first.action, second.action, atol=1e-6)
      np.testing.assert_array_equal(
          first.observation[:-1], second.observation[:-1]
      )


if __name__ == '__main__':
  absltest.main()
