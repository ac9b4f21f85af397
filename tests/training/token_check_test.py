"""Tests of the check that a policy knows the tokens of task and data."""

import functools
import os
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.binaries import configs
from parl_tf.domains import drawn_maze
from parl_tf.networks import vision_language_transformer
from parl_tf.policies import edited
from parl_tf.policies import vla
from parl_tf.training import experiment
from parl_tf.training import phase_checks
from parl_tf.training import run_dataset
from parl_tf.training import token_check


def _make_policy():
  """Makes a policy of 6 words, which is part of others."""
  network_ctor = functools.partial(
      vision_language_transformer.VisionLanguageTransformer,
      vocabulary_size=6,
      width=8,
      num_blocks=1,
  )
  base_ctor = functools.partial(
      vla.LowRankPolicy,
      base_ctor=functools.partial(vla.VLAPolicy, network_ctor=network_ctor),
  )
  spec = types.ModelSpec(
      {
          'instruction': tf.TensorSpec([5], tf.float32, 'instruction'),
          'robot': tf.TensorSpec([2], tf.float32, 'robot'),
      },
      tf.TensorSpec([2], tf.float32, 'action'),
  )
  return edited.EditedPolicy(spec, base_ctor=base_ctor, hidden_sizes=(4,))


def _make_episode(token=5.0, dtype=np.float32):
  """Makes an episode of 3 steps, with a token at step 2."""
  instruction = np.tile(np.array([0, 1, 2, 5, 4], dtype), [4, 1])
  instruction[2, 3] = token
  return types.Episode(
      observation={
          'instruction': instruction,
          'picture': np.zeros([4, 48, 48, 3], np.uint8),
      },
      action=np.zeros([3, 2], np.float32),
      reward=np.zeros([3], np.float32),
      discount=np.ones([3], np.float32),
      success=np.zeros([3], bool),
  )


class TokenCheckTest(parameterized.TestCase):

  @parameterized.parameters((6.0, '6'), (-1.0, '-1'), (1.5, '1.5'))
  def test_an_unknown_token_of_the_data_is_an_error(self, token, seen):
    episodes = [_make_episode(), _make_episode(token)]
    with self.assertRaisesRegex(
        ValueError,
        rf'^data.hdf5: .*`instruction` must .* in \[0, 5\] .*vocabulary_size.*'
        rf' got {seen} in entry 3 of step 2 of episode 1\.',
    ):
      token_check.check_episodes('data.hdf5', episodes, _make_policy())

  def test_known_tokens_pass(self):
    episodes = [_make_episode(), _make_episode(0, np.uint8)]
    token_check.check_episodes('data.hdf5', episodes, _make_policy())

  def _check_task(self, vocabulary_size):
    policy = mock.Mock(
        vocabulary_sizes={'instruction': vocabulary_size}, is_served=True
    )
    task = drawn_maze.DrawnMaze(goal_cells=((7, 9), (1, 1)))
    agent = mock.Mock(generative_policy=policy, critic=None, chunk_length=1)
    phase_checks.check(None, (), task, agent)

  def test_a_task_with_more_words_is_an_error(self):
    self._check_task(6)
    with self.assertRaisesRegex(
        ValueError, r'task.*`instruction` must .* \[0, 4\].* from 0 to 5'
    ):
      self._check_task(5)

  def test_a_run_checks_its_data_before_training(self):
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    root_dir = self.create_tempdir().full_path
    configs.parse(
        ['experiments/drawn_maze_vla_small.gin'],
        [
            "run_experiment.dataset_path = 'mine.hdf5'",
            'VisionLanguageTransformer.num_blocks = 1',
            'VisionLanguageTransformer.width = 8',
        ],
    )
    with mock.patch.object(
        run_dataset, 'load', return_value=[_make_episode(6.0)]
    ):
      with self.assertRaisesRegex(ValueError, '^mine.hdf5: .*`instruction`'):
        experiment.run_experiment(os.path.join(root_dir, 'run'), 0)


if __name__ == '__main__':
  absltest.main()
