"""Tests of the pictures of an evaluation's first episode."""

import os

from absl.testing import absltest
import imageio
import numpy as np

from parl_tf.binaries import video
from parl_tf.domains import domain as domain_lib
from parl_tf.training import evaluation
from parl_tf.training import evaluation_video
from tests.training import line_walk


class EvaluationVideoTest(absltest.TestCase):

  def _frames(self, **task):
    found = evaluation_video.FirstEpisode()
    evaluator = evaluation.Evaluator(
        line_walk.LineWalk(**task), num_episodes=2, seed=0
    )
    result = evaluator.run(
        lambda observation, seed: np.full([2, 1], 0.01), found
    )
    return found.frames, result.episodes

  def test_has_every_state_of_the_first_episode(self):
    frames, episodes = self._frames()
    self.assertLen(frames, episodes[0].num_steps + 1)
    for frame, state in zip(frames, episodes[0].observation, strict=True):
      [column] = np.flatnonzero(frame[0, :, 0])
      self.assertEqual(column, int(16 * (state[0] + 2.0)))

  def test_a_lost_attempt_is_not_shown(self):
    domain = line_walk.LineWalk()
    evaluator = evaluation.Evaluator(domain, num_episodes=2, seed=0)
    lost = []

    def act(observation, seed):
      del seed
      if observation[0, 1] == 3 and not lost:
        lost.append(True)
        raise domain_lib.EpisodeLostError('The arm fell.')
      return np.full([2, 1], 0.2)  # Each picture differs from the last one.

    path = os.path.join(self.create_tempdir().full_path, 'walk.gif')
    found = evaluation_video.FirstEpisode()
    with video.VideoRecorder(path) as recorder:

      def observe(*seen):
        found(*seen)
        recorder(*seen)

      result = evaluator.run(act, observe)
    self.assertNotEmpty(lost)
    num_states = result.episodes[0].num_steps + 1
    self.assertLen(found.frames, num_states)
    with imageio.get_reader(path) as reader:
      self.assertEqual(reader.get_length(), num_states)

  def test_long_episodes_are_cut(self):
    frames, _ = self._frames(max_episode_steps=320)
    self.assertLen(frames, 300)

  def test_task_without_pictures_is_an_error(self):
    evaluation_video.check(line_walk.LineWalk())
    with self.assertRaisesRegex(ValueError, 'does not render images'):
      evaluation_video.check(line_walk.LineWalk(draws=False))

  def test_robots_are_refused_without_moving_them(self):
    domain = line_walk.LineWalk()
    domain.max_environments = 1
    with self.assertRaisesRegex(ValueError, 'limits the number.* is 1'):
      evaluation_video.check(domain)
    self.assertEmpty(domain.environments)


if __name__ == '__main__':
  absltest.main()
