"""Tests of the settings that two runs must share."""

import json
import os
from unittest import mock

from absl.testing import absltest
import gin

from parl_tf.domains import drawn_maze
from parl_tf.networks import small_image_encoder  # noqa: F401
from parl_tf.training import phase_checkpoint
from tests import small_images
from tests.agents import small_agent
from tests.training import small_run


class SettingsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  def test_only_runs_with_images_share_their_encoder(self):
    name = 'ObservationEncoder.image_encoder_ctor'
    gin.parse_config(f'{name} = @SmallImageEncoder')
    for agent, is_shared in (
        (small_agent.make_agent(), False), (small_images.make_agent(), True)
    ):
      policy = phase_checkpoint.policy_settings(agent, 'offline')
      # Checkpoints that were written before stacks existed have no such key.
      self.assertNotIn('build_agent.num_frames', policy)
      critic = phase_checkpoint.critic_settings(agent)
      self.assertEqual([name in policy, name in critic], [is_shared] * 2)

  def test_another_sparsity_needs_another_critic_but_the_same_clone(self):
    root = self.create_tempdir().full_path
    task = {'Gymnasium.id': "'Reach'", 'Gymnasium.is_sparse': 'False'}
    for phase in phase_checkpoint.PHASES:
      directory = phase_checkpoint.path(root, phase)
      os.makedirs(directory)
      content = {'train_step': 1, 'dataset_path': None, 'task': task}
      with open(os.path.join(directory, 'phase.json'), 'w') as file:
        json.dump(content, file)

    domain = small_run.make_domain()

    def check(phase, **changes):
      found = {**task, **{f'Gymnasium.{k}': v for k, v in changes.items()}}
      with mock.patch.object(
          phase_checkpoint, 'task_settings', return_value=found
      ):
        phase_checkpoint.PhaseCheckpoint(root, phase).check_task(domain)

    check('offline', score_returns='(0, 9)')  # Before, there was none.
    check('behavior_cloning', is_sparse='True')
    check('behavior_cloning', max_episode_steps='25')
    with self.assertRaisesRegex(ValueError, 'max_episode_steps.*after cloning'):
      check('offline', max_episode_steps='25')
    with self.assertRaisesRegex(
        ValueError, "is_sparse.*got True.*initial_phase = 'behavior_cloning'"
    ):
      check('offline', is_sparse='True')
    with self.assertRaisesRegex(ValueError, 'Gymnasium.id'):
      check('behavior_cloning', id="'Push'", is_sparse='True')

  def test_a_maze_in_pictures_has_the_settings_of_its_maze(self):
    root = self.create_tempdir().full_path
    directory = phase_checkpoint.path(root, 'offline')
    os.makedirs(directory)

    def domain(size):
      gin.clear_config()
      gin.bind_parameter('PointMaze.size', size)
      return drawn_maze.DrawnMaze()

    def save(task):
      content = {'train_step': 1, 'dataset_path': None, 'task': task}
      with open(os.path.join(directory, 'phase.json'), 'w') as file:
        json.dump(content, file)

    def check(size):
      task = domain(size)
      phase_checkpoint.PhaseCheckpoint(root, 'offline').check_task(task)

    self.addCleanup(gin.clear_config)
    settings = phase_checkpoint.task_settings(domain('UMaze'))
    save(settings)
    check('UMaze')
    with self.assertRaisesRegex(ValueError, "PointMaze.size.*'UMaze'.*'Large'"):
      check('Large')
    # As version 0.2 wrote it.
    save({k: v for k, v in settings.items() if 'PointMaze' not in k})
    check('UMaze')


if __name__ == '__main__':
  absltest.main()
