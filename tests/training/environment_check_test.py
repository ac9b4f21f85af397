"""Tests of the checks of environments."""

from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import numpy as np

from parl_tf import types
from parl_tf.training import environment_check
from parl_tf.training import evaluation
from tests.training import line_walk


def _episode(num_steps, discount=0.0, success=False):
  discounts = np.ones(num_steps, np.float32)
  discounts[-1] = discount
  successes = np.zeros(num_steps, bool)
  successes[-1] = success
  return types.Episode(
      observation=np.zeros([num_steps + 1, 1], np.float32),
      action=np.zeros([num_steps, 1], np.float32),
      reward=np.zeros(num_steps, np.float32),
      discount=discounts,
      success=successes,
  )


class EnvironmentCheckTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._domain = line_walk.LineWalk()
    self._make = self._domain.make_environment

  def _evaluate(self, change):
    def make_environment(*args, **kwargs):
      return change(self._make(*args, **kwargs))

    self._domain.make_environment = make_environment
    evaluator = evaluation.Evaluator(self._domain, num_episodes=1, seed=0)
    evaluator.run(lambda observation, seed: np.zeros([1, 1]))

  def test_an_environment_of_another_kind_is_refused(self):
    with self.assertRaisesRegex(
        TypeError, r'LineWalk\.make_environment` must return .* got a Mock'
    ):
      self._evaluate(lambda environment: mock.Mock(spec=['step']))

  def test_other_specs_than_those_of_the_domain_are_refused(self):
    def change(environment):
      wrong = specs.Array((3,), np.float64)
      environment.observation_spec = lambda: wrong
      return environment

    with self.assertRaisesRegex(
        ValueError, r'`observation_spec` .*float32 \[\d+\], got float64 \[3\]'
    ):
      self._evaluate(change)

  @parameterized.parameters(
      (np.float64, r'got float64 \[\d+\]'), (None, r'got x: float32 \[\d+\]')
  )
  def test_other_observations_than_the_spec_are_refused(self, dtype, message):
    def change(environment):
      reset = environment.reset

      def other_reset():
        time_step = reset()
        observation = time_step.observation
        return time_step._replace(
            observation=observation.astype(dtype) if dtype else {
                'x': observation
            }
        )

      environment.reset = other_reset
      return environment

    with self.assertRaisesRegex(ValueError, f'after a reset .*{message}'):
      self._evaluate(change)

  def test_failures_at_the_time_limit_are_warned_of_once(self):
    self._domain.max_episode_steps = 4
    limits = environment_check.TimeLimits(self._domain)
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      limits.see(_episode(3))
      limits.see(_episode(3))
      limits.see(_episode(4, discount=1.0))
      limits.see(_episode(4, success=True))
      limits.see(_episode(4))  # It may have failed just then.
    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      for _ in range(3):
        limits.see(_episode(4))
    self.assertLen(logs.output, 1)
    self.assertIn('without success in step 4, at the time limit',
                  logs.output[0])


if __name__ == '__main__':
  absltest.main()
