"""Tests of evaluation episodes in which the environment diverges."""

from absl.testing import absltest
from absl.testing import parameterized
import dm_env
import numpy as np

from parl_tf.training import evaluation
from parl_tf.training import finite_steps
from tests.training import line_walk


class FiniteStepsTest(parameterized.TestCase):

  @parameterized.parameters('reward', 'observation')
  def test_an_episode_that_diverges_is_a_failure(self, field):
    domain = line_walk.LineWalk()
    make = domain.make_environment
    num_steps, abandoned = 0, []

    def diverge(environment):
      step = environment.step

      def step_once(action):
        nonlocal num_steps
        num_steps += 1
        time_step = step(action)
        if num_steps < 3:
          return time_step
        if field == 'observation':
          time_step.observation[0] = np.inf  # In place, beyond the goal.
          return time_step
        return time_step._replace(reward=np.float32(np.nan))

      environment.step = step_once
      environment.abandon = lambda: abandoned.append(num_steps)
      return environment

    domain.make_environment = lambda *args, **kwargs: diverge(
        make(*args, **kwargs)
    )
    evaluator = evaluation.Evaluator(domain, num_episodes=1, seed=0)
    with self.assertLogs(level='WARNING') as logs:
      result = evaluator.run(lambda observation, seed: np.zeros([1, 1]))
    self.assertIn(f'episode 0 ends as a failure, because the {field}',
                  logs.output[0])
    self.assertEqual(abandoned, [3])  # A robot stops.
    (episode,) = result.episodes
    self.assertEqual((episode.num_steps, result.success_rate), (3, 0.0))
    self.assertFalse(np.any(episode.success))
    self.assertEqual(episode.discount[-1], 1.0)
    for array in episode.observation, episode.reward:
      self.assertTrue(np.all(np.isfinite(array)))

  @parameterized.parameters(([5.0, 7.0], 5.0), ([-2.0, 3.0], -2.0), ([], 0.0))
  def test_the_last_reward_is_the_lowest_so_far(self, rewards, lowest):
    steps = finite_steps.FiniteSteps(0, line_walk.LineWalk().make_environment(
        0, evaluation=True
    ))
    observation = np.zeros([2], np.float32)
    steps.see(dm_env.restart(observation))
    for reward in rewards:
      steps.see(dm_env.transition(np.float32(reward), observation))
    with self.assertLogs(level='WARNING'):
      found = steps.see(
          dm_env.transition(np.float32(np.nan), observation)
      )
    self.assertEqual(found.reward, lowest)

  def test_a_reset_that_is_not_finite_is_an_error(self):
    domain = line_walk.LineWalk()
    environment = domain.make_environment(0, evaluation=True)
    environment.reset = lambda: dm_env.restart(np.full([2], np.nan, np.float32))
    domain.make_environment = lambda *args, **kwargs: environment
    evaluator = evaluation.Evaluator(domain, num_episodes=1, seed=0)
    with self.assertRaisesRegex(ValueError, 'episode 0.*observation after a'):
      evaluator.run(lambda observation, seed: np.zeros([1, 1]))


if __name__ == '__main__':
  absltest.main()
