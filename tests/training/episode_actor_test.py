"""Tests of collecting whole online episodes."""

from absl import logging
from absl.testing import absltest
import numpy as np

from parl_tf.domains import domain as domain_lib
from parl_tf.training import episode_actor
from tests import eager
from tests.training import small_run


class EpisodeActorTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self._domain = small_run.make_domain()
    environment = self._domain.make_environment(0, evaluation=False)
    self._domain.make_environment = lambda seed, evaluation: environment
    self._num_resets = 0
    self._steps = []
    reset, step = environment.reset, environment.step

    def counted_reset():
      self._num_resets += 1
      return reset()

    def noted_step(action):
      self._steps.append(step(action))
      return self._steps[-1]

    environment.reset, environment.step = counted_reset, noted_step
    self._environment = environment
    self._actor = episode_actor.EpisodeActor(
        self._domain, small_run.make_agent(), seed=0
    )

  def test_an_episode_is_whole_and_has_one_reset(self):
    for number in range(3):
      self._steps.clear()
      episode = self._actor.act(number)
      self.assertEqual(episode.episode_id, number)
      self.assertEqual(self._num_resets, number + 1)
      self.assertLen(self._steps, episode.num_steps)
      np.testing.assert_array_equal(
          episode.observation[1:], [t.observation for t in self._steps]
      )
      self.assertTrue(self._steps[-1].last())

  def test_a_lost_episode_is_repeated(self):
    wanted = self._actor.act(4)
    step, attempts = self._environment.step, []

    def lost_step(action):
      attempts.append(True)
      if len(attempts) == 2:
        raise domain_lib.EpisodeLostError('The second step is lost.')
      return step(action)

    self._environment.step = lost_step
    episode = self._actor.act(4)
    np.testing.assert_array_equal(episode.observation, wanted.observation)
    np.testing.assert_array_equal(episode.action, wanted.action)
    self.assertLen(attempts, 2 + episode.num_steps)

  def test_a_time_limit_that_ends_the_task_is_warned_of(self):
    step = self._environment.step

    def failing_step(action):
      time_step = step(action)
      if not time_step.last():
        return time_step
      return time_step._replace(discount=np.float32(0))

    self._environment.step = failing_step
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      episodes = [self._actor.act(number) for number in range(3)]
    self.assertFalse(any(np.any(x.success) for x in episodes))
    self.assertLen(logs.output, 1)
    self.assertIn('at the time limit', logs.output[0])

  def test_an_environment_that_differs_from_its_domain_is_refused(self):
    spec = self._environment.observation_spec()
    wrong = spec.replace(dtype=np.float64)
    self._environment.observation_spec = lambda: wrong
    with self.assertRaisesRegex(ValueError, '`observation_spec` .* float64'):
      episode_actor.EpisodeActor(
          self._domain, small_run.make_agent(), seed=0
      )


if __name__ == '__main__':
  absltest.main()
