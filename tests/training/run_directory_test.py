"""Tests of the ownership of a run directory."""

import os
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin

from parl_tf.policies import flow  # noqa: F401 (registers gin names)
from parl_tf.training import experiment  # noqa: F401
from parl_tf.training import phases  # noqa: F401
from parl_tf.training import run_directory


@gin.configurable(module='run_directory_test')
def make_trainer(
    width=1, num_gradient_steps=4, critic=None
):
  return width, num_gradient_steps, critic


@gin.configurable(module='run_directory_test')
def connect_policy(
    address='', workers=(), call_seconds=60.0, patience_seconds=60.0
):
  return address, workers, call_seconds, patience_seconds


class RunDirectoryTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._root = os.path.join(self.create_tempdir().full_path, 'run')

  def _claim(self, *bindings, seed=0):
    gin.clear_config()
    gin.parse_config(bindings)
    return run_directory.claim(self._root, seed)

  def _begin(self, path='checkpoints/checkpoint'):
    """Writes the files that a run writes before its first step."""
    path = pathlib.Path(self._root, path)
    path.parent.mkdir()
    path.touch()

  def test_new_directory_is_created(self):
    self.assertFalse(self._claim('make_trainer.width = 8', seed=5))
    self.assertEqual(run_directory.read_seed(self._root), 5)
    gin.clear_config()
    gin.parse_config_file(run_directory.config_path(self._root))
    self.assertEqual(make_trainer()[0], 8)

  def test_results_without_checkpoints_are_not_overwritten(self):
    self._claim('make_trainer.width = 8')
    metrics = pathlib.Path(self._root, 'metrics.csv')
    metrics.write_text('phase,train_step\n')  # Of a start that failed.
    self._claim('make_trainer.width = 8')
    metrics.write_text('phase,train_step\nonline,10\n')
    for width in 8, 9:
      with self.assertRaisesRegex(ValueError, 'run.*results.*no checkpoints'):
        self._claim(f'make_trainer.width = {width}')
    episodes = pathlib.Path(self._root, 'episodes')
    episodes.mkdir()
    (episodes / '0.npz').touch()
    with self.assertRaisesRegex(ValueError, 'run.*results.*no checkpoints'):
      self._claim('make_trainer.width = 8')
    self._begin()
    self.assertTrue(self._claim('make_trainer.width = 8'))

  def test_checkpoints_that_nothing_lists_are_those_of_a_run(self):
    self._claim('make_trainer.width = 8')
    self._begin()
    folder = pathlib.Path(self._root, 'checkpoints')
    (folder / 'ckpt-3.index').touch()
    (folder / 'checkpoint').unlink()
    pathlib.Path(self._root, 'metrics.csv').write_text('phase\nonline\n')
    self.assertTrue(self._claim('make_trainer.width = 8'))
    with self.assertRaisesRegex(ValueError, 'another configuration'):
      self._claim('make_trainer.width = 9')

  def test_same_configuration_is_resumed(self):
    self._claim('make_trainer.width = 8', 'Online.num_episodes = 1')
    self._begin()
    self.assertTrue(
        self._claim('Online.num_episodes = 1', 'make_trainer.width = 8')
    )

  def test_run_is_finished_until_it_is_claimed_again(self):
    bindings = ('make_trainer.width = 8', 'Online.num_episodes = 1')
    self._claim(*bindings)
    self.assertFalse(run_directory.is_finished(self._root, 0))
    run_directory.mark_finished(self._root)
    self.assertTrue(run_directory.is_finished(self._root, 0))
    self.assertFalse(run_directory.is_finished(self._root, 1))
    # More episodes, interrupted before the first one.
    self._claim(bindings[0], 'Online.num_episodes = 2')
    self.assertFalse(run_directory.is_finished(self._root, 0))

  def test_finished_run_of_fewer_episodes_is_not_this_one(self):
    self._claim('Online.num_episodes = 1')
    run_directory.mark_finished(self._root)
    gin.clear_config()
    gin.parse_config('Online.num_episodes = 2')

    self.assertFalse(run_directory.is_finished(self._root, 0))

  def test_a_kill_before_data_is_set_aside_leaves_the_directory_unbound(self):
    self._claim('make_trainer.width = 8')
    gin.clear_config()
    gin.parse_config('make_trainer.width = 16')
    set_aside = mock.Mock(side_effect=[KeyboardInterrupt, None])
    with self.assertRaises(KeyboardInterrupt):
      run_directory.claim(self._root, 0, set_aside)
    self.assertFalse(run_directory.claim(self._root, 0, set_aside))
    self.assertEqual(set_aside.call_count, 2)
    # From here on, the data is this configuration's own.
    self.assertTrue(run_directory.claim(self._root, 0, set_aside))
    self.assertEqual(set_aside.call_count, 2)

  def test_another_configuration_is_refused_and_the_binding_named(self):
    self._claim('make_trainer.width = 8', 'Offline.num_steps = 1')
    self._begin()
    with self.assertRaisesRegex(
        ValueError,
        r'run/config.gin: the directory belongs to another configuration'
        r'(?s:.*)\n  -make_trainer.width = 8\n  \+make_trainer.width = 16$',
    ):
      self._claim('make_trainer.width = 16', 'Offline.num_steps = 1')

  def test_binding_that_only_one_of_them_has_is_refused(self):
    self._claim()
    self._begin()
    with self.assertRaisesRegex(ValueError, r'\+make_trainer.width = 16'):
      self._claim('make_trainer.width = 16')

  def test_a_binding_to_a_default_that_a_later_version_adds_is_no_change(self):
    self._claim('make_trainer.width = 8')
    self._begin()
    later = ('make_trainer.width = 8', 'make_trainer.num_gradient_steps = %n')
    self.assertTrue(self._claim('n = 4', *later))
    with self.assertRaisesRegex(ValueError, r'\+make_trainer.num_gradient_s'):
      self._claim('n = 5', *later)

  def test_other_seed_is_refused(self):
    self._claim(seed=0)
    self._begin()
    with self.assertRaisesRegex(ValueError, '(?s)-# seed = 0.*[+]# seed = 1'):
      self._claim(seed=1)

  def test_numbers_of_steps_and_episodes_may_change(self):
    self._claim('Offline.num_steps = 1', 'fast/Online.num_episodes = 1')
    self._begin()
    self.assertTrue(
        self._claim('Offline.num_steps = 9', 'fast/Online.num_episodes = 9')
    )
    self.assertTrue(
        self._claim(
            "connect_policy.address = 'other'",
            "connect_policy.workers = ('more',)",
            'connect_policy.call_seconds = 600.0',
            'connect_policy.patience_seconds = 600.0',
        )
    )
    self.assertTrue(self._claim('Online.num_episodes = 9'))

  def test_the_initial_run_may_move_once_the_run_has_taken_it_over(self):
    other, moved = (
        f'run_experiment.initial_run = "{x}"'
        for x in ('runs/a', '/runs/a')
    )
    self._claim(other)
    pathlib.Path(self._root, 'initial_run.json').touch()
    # Not started: the data of the other run is taken over again.
    self.assertFalse(self._claim(moved))
    self._begin()
    self.assertTrue(self._claim(other))
    with self.assertRaisesRegex(ValueError, "-run_exp.*initial_run = 'runs/a'"):
      self._claim()
    with self.assertRaisesRegex(ValueError, r'\+make_trainer.width = 16$'):
      self._claim(moved, 'make_trainer.width = 16')

  def test_a_run_cannot_begin_from_another_one_later(self):
    self._claim()
    self._begin()
    with self.assertRaisesRegex(ValueError, r'\+run_exp.*initial_run'):
      self._claim('run_experiment.initial_run = "runs/a"')

  def test_steps_of_a_policy_may_not_change(self):
    self._claim('FlowPolicy.num_steps = 10')
    self._begin()
    with self.assertRaisesRegex(ValueError, 'FlowPolicy.num_steps'):
      self._claim('FlowPolicy.num_steps = 2')

  def test_steps_of_the_search_may_not_change(self):
    self._claim('make_trainer.num_gradient_steps = 1')
    self._begin()
    with self.assertRaisesRegex(ValueError, 'num_gradient_steps'):
      self._claim('make_trainer.num_gradient_steps = 2')

  def test_multiline_values_are_compared(self):
    def binding(last):
      values = ', '.join(f"'{'x' * 30}{i}'" for i in range(8))
      return f"make_trainer.critic = [{values}, '{last}']"

    self._claim(binding('a'))
    self._begin()
    self.assertTrue(self._claim(binding('a')))
    with self.assertRaisesRegex(ValueError, r"'a'\](?s:.*)'b'\]"):
      self._claim(binding('b'))

  def test_failed_start_does_not_hold_the_directory(self):
    self._claim('make_trainer.width = 8')
    pathlib.Path(self._root, 'checkpoints').mkdir()
    pathlib.Path(self._root, 'data.hdf5').touch()
    self.assertFalse(self._claim('make_trainer.width = 16', seed=1))
    self.assertEqual(run_directory.read_seed(self._root), 1)

  @parameterized.parameters('checkpoints/checkpoint', 'episodes/episode_0.npz')
  def test_run_without_its_configuration_is_refused(self, path):
    self._claim()
    self._begin(path)
    os.remove(run_directory.config_path(self._root))
    with self.assertRaisesRegex(ValueError, 'has a run, but no config'):
      self._claim()

  def test_directory_is_held_by_one_process_at_a_time(self):
    with run_directory.hold(self._root):
      with self.assertRaisesRegex(
          ValueError, f'`root_dir` {self._root}.*process {os.getpid()}'
      ):
        with run_directory.hold(self._root):
          pass
      with run_directory.hold(self._root, 'other.lock'):
        pass
    with run_directory.hold(self._root):
      pass

  def test_directory_without_run_is_named(self):
    message = f'{self._root} is not a run directory'
    with self.assertRaisesRegex(ValueError, message):
      run_directory.read_seed(self._root)

  def test_used_values_are_written_including_defaults(self):
    self._claim('make_trainer.width = 8')
    make_trainer()
    run_directory.write_operative_config(self._root)
    text = pathlib.Path(self._root, 'operative_config.gin').read_text()
    self.assertIn('make_trainer.width = 8\n', text)
    self.assertIn('make_trainer.num_gradient_steps = 4\n', text)


if __name__ == '__main__':
  absltest.main()
