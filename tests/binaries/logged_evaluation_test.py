"""Tests of the episodes that `parl-evaluate --episodes` logs."""

import os

from absl import logging
from absl.testing import absltest
import numpy as np

from parl_tf.binaries import evaluation_run
from parl_tf.replay import episode_log
from tests.training import line_walk


class LoggedEvaluationTest(absltest.TestCase):

  def test_an_interruption_leaves_the_episodes_that_have_ended(self):
    domain = line_walk.LineWalk(max_episode_steps=4)
    domain.max_environments = 1  # As a robot.
    directory = os.path.join(self.create_tempdir().full_path, 'trials')
    logged = []

    def act(observation, seed):
      del seed
      logged.append(len(os.listdir(directory)))
      if logged[-1] == 2:
        raise KeyboardInterrupt
      return np.full([len(observation), 1], -0.1, np.float32)

    with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
      with self.assertRaises(KeyboardInterrupt):
        evaluation_run.play(
            act, domain, num_episodes=3, seed=0, directory=directory
        )

    self.assertEqual(logged, 4 * [0] + 4 * [1] + [2])
    self.assertLen(episode_log.EpisodeLog(directory), 2)
    self.assertIn(f'Wrote 2 episodes to {directory}.', logs.output[-1])


if __name__ == '__main__':
  absltest.main()
