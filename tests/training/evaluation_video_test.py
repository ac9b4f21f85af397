"""Tests of the pictures of an evaluation's first episode."""

from absl.testing import absltest
import numpy as np

from parl_tf.training import evaluation
from parl_tf.training import evaluation_video
from tests.training import line_walk


class EvaluationVideoTest(absltest.TestCase):

  def _frames(self, **task):
    video = evaluation_video.FirstEpisode()
    evaluator = evaluation.Evaluator(
        line_walk.LineWalk(**task), num_episodes=2, seed=0
    )
    result = evaluator.run(
        lambda observation, seed: np.full([2, 1], 0.01), video
    )
    return video.frames, result.episodes

  def test_has_every_state_of_the_first_episode(self):
    frames, episodes = self._frames()
    self.assertLen(frames, episodes[0].num_steps + 1)
    for frame, state in zip(frames, episodes[0].observation, strict=True):
      [column] = np.flatnonzero(frame[0, :, 0])
      self.assertEqual(column, int(16 * (state[0] + 2.0)))

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
