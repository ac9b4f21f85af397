"""Tests that an error between two steps leaves no robot moving."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.datasets import generate
from parl_tf.domains import closing
from parl_tf.domains import domain as domain_lib
from parl_tf.training import episode_actor
from parl_tf.training import evaluation
from tests import eager
from tests.training import line_walk
from tests.training import small_run


class _InterruptedController(domain_lib.Controller):
  """Is interrupted at its second decision, as by Ctrl-C."""

  def reset(self, seed):
    self._num_decisions = 0

  def action(self, time_step, environment):
    self._num_decisions += 1
    if self._num_decisions == 2:
      raise KeyboardInterrupt
    return np.zeros(environment.action_spec().shape, np.float32)


class AbandonedEpisodesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self.domain = small_run.make_domain()
    self.environment = self.domain.make_environment(0, evaluation=False)
    self.domain.make_environment = lambda seed, evaluation: self.environment
    self.calls = []
    self.environment.abandon = lambda: self.calls.append('abandon')
    step = self.environment.step

    def noted_step(action):
      self.calls.append('step')
      return step(action)

    self.environment.step = noted_step

  def test_evaluation(self):
    def act(observation, seed):
      del observation, seed
      if self.calls:
        raise KeyboardInterrupt
      return np.zeros([1, 1, 2], np.float32)

    with self.assertRaises(KeyboardInterrupt):
      evaluation.Evaluator(self.domain, num_episodes=1, seed=0).run(act)
    self.assertEqual(self.calls, ['step', 'abandon'])

  def test_collection(self):
    agent = small_run.make_agent()
    actor = episode_actor.EpisodeActor(self.domain, agent, seed=0)
    action = agent.collect_policy.action

    def interrupted_action(*arguments, **kwargs):
      if self.calls:
        raise KeyboardInterrupt
      return action(*arguments, **kwargs)

    with mock.patch.object(
        agent.collect_policy, 'action', interrupted_action
    ):
      with self.assertRaises(KeyboardInterrupt):
        actor.act(0)
    self.assertEqual(self.calls, ['step', 'abandon'])

  def test_recording(self):
    with self.assertRaises(KeyboardInterrupt):
      list(
          generate.generate(
              self.environment, _InterruptedController(), num_steps=9, seed=0
          )
      )
    self.assertEqual(self.calls, ['step', 'abandon'])

  def test_the_first_error_counts(self):
    def fail():
      raise OSError('no answer')

    good = line_walk.LineWalk().make_environment(0, evaluation=True)
    good.abandon = lambda: self.calls.append('abandon')
    self.environment.abandon = fail
    with self.assertLogs(level='ERROR') as logs:
      with self.assertRaisesRegex(ValueError, 'first'):
        with closing.abandoned_on_error([self.environment, good]):
          raise ValueError('first')
    self.assertIn('no answer', logs.output[0])
    self.assertEqual(self.calls, ['abandon'])


if __name__ == '__main__':
  absltest.main()
