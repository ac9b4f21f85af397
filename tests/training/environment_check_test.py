"""Tests of the checks of environments."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import numpy as np

from parl_tf.training import evaluation
from tests.training import line_walk


class EnvironmentCheckTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._domain = line_walk.LineWalk()
    self._make = self._domain.make_environment

  def _evaluate(self, change):
    def make_environment(*args, **kwargs):
      return change(self._make(*args, **kwargs))

    self._domain.make_environment = make_environment
    self._evaluator = evaluation.Evaluator(
        self._domain, num_episodes=1, seed=0
    )
    self._run()

  def _run(self):
    self._evaluator.run(lambda observation, seed: np.zeros([1, 1]))

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
    with self.assertRaisesRegex(ValueError, '`observation_spec` '):
      self._run()  # A second try does not play it either.

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


if __name__ == '__main__':
  absltest.main()
