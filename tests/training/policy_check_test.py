"""Tests of what is refused of a policy before a run."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf.domains import pointmaze
from parl_tf.policies import gaussian
from parl_tf.training import builder
from parl_tf.training import on_policy
from parl_tf.training import phase_checks
from parl_tf.training import policy_check
from tests.agents import small_agent


def _policy(
    observation_spec=small_agent.OBSERVATION_SPEC, chunk_length=1, **methods
):
  return small_agent.make_policy(
      type('MyPolicy', (gaussian.GaussianPolicy,), methods),
      observation_spec=observation_spec,
      chunk_length=chunk_length,
  )


def _check(policy, **kwargs):
  policy_check.check(
      policy,
      small_agent.OBSERVATION_SPEC,
      small_agent.ACTION_SPEC.shape[0],
      **kwargs,
  )


def _without_temperature(self, observation, num_samples, seed, averaged=True):
  del self, observation, num_samples, seed, averaged


def _loss_without_mask(self, observation, action, seed):
  del self, observation, seed
  return tf.zeros([len(action)])


def _samples(actions):
  return lambda self, *args, **kwargs: tf.constant(actions, tf.float32)


class PolicyCheckTest(parameterized.TestCase):

  def test_a_policy_that_keeps_the_protocol_passes(self):
    _check(_policy())
    _check(small_agent.make_policy())
    # Rounding, and zeros that are no valid observation.
    for number in 1.0000001, np.nan:
      _check(_policy(sample=_samples(np.full([2, 3, 2], number))))

  @parameterized.parameters(
      (np.zeros([2, 2]), r'sample .* \[2, 3, 2\], got float32 of \[2, 2\]'),
      (np.full([2, 3, 2], 1.5), r'in \[-1, 1\], got 1.5 to 1.5'),
  )
  def test_wrong_samples_are_refused(self, actions, message):
    with self.assertRaisesRegex(ValueError, message):
      _check(_policy(sample=_samples(actions)))

  @parameterized.parameters(
      ([3, 2, 2], [1, 0, 2]), ([3, 2], None)  # N first, or no batch
  )
  def test_draws_without_the_batch_first_are_refused(self, shape, order):
    def sample(self, observation, num_samples, seed, averaged, temperature):
      del self, num_samples, averaged, temperature
      size = len(observation)
      draws = randomness.uniform(
          seed, [size if x == 2 and order else x for x in shape[:-1]] + [2],
          low=-1.0, high=1.0,
      )
      if order is not None:
        return tf.transpose(draws, order)
      return tf.tile(draws[tf.newaxis], [size, 1, 1])

    with self.assertRaisesRegex(ValueError, 'must draw the same actions for a'):
      _check(_policy(sample=sample))

  def test_samples_of_another_dtype_are_refused(self):
    def sample(self, *args, **kwargs):
      del self, args, kwargs
      return tf.zeros([2, 3, 2], tf.float64)

    with self.assertRaisesRegex(ValueError, 'float32 of shape.*got float64'):
      _check(_policy(sample=sample))

  def test_a_loss_that_is_a_mean_is_refused(self):
    with self.assertRaisesRegex(
        ValueError, r'distillation_loss .* here \[2\], got float32 of \[\]'
    ):
      _check(_policy(distillation_loss=_samples(0.5)))

  def test_only_a_policy_that_is_cloned_needs_weights(self):
    policy = _policy(trainable_variables=())
    with self.assertRaisesRegex(ValueError, 'trainable_variables must not'):
      _check(policy)
    policy_check.check(
        policy, small_agent.OBSERVATION_SPEC, 2, is_cloned=False
    )

  def test_missing_arguments_are_named(self):
    with self.assertRaisesRegex(
        TypeError, r"MyPolicy.sample must .*arguments .* 'temperature'"
    ):
      _check(_policy(sample=_without_temperature))

  def test_an_on_policy_phase_needs_its_agent(self):
    self.addCleanup(gin.clear_config)
    domain = pointmaze.PointMaze()
    agent = small_agent.make_agent(
        observation_spec=builder.observation_spec(domain)
    )
    chosen = mock.Mock(online=on_policy.OnPolicy())
    with self.assertRaisesRegex(ValueError, 'got OnPolicy and PARLAgent'):
      phase_checks.check(chosen, ('online',), domain, agent)

  def test_a_loss_takes_a_mask_if_actions_are_chunks(self):
    self.addCleanup(gin.clear_config)
    gin.bind_parameter('n_step_returns.online_steps', 5)
    domain = pointmaze.PointMaze()

    def check(chunk_length):
      agent = small_agent.make_agent(
          policy_ctor=lambda spec: _policy(
              distillation_loss=_loss_without_mask,
              observation_spec=spec.observation,
              chunk_length=chunk_length,
          ),
          observation_spec=builder.observation_spec(domain),
          chunk_length=chunk_length,
      )
      phase_checks.check(None, ('behavior_cloning',), domain, agent)

    check(1)
    with self.assertRaisesRegex(
        TypeError, r"MyPolicy.distillation_loss must .* 'mask'"
    ):
      check(2)


if __name__ == '__main__':
  absltest.main()
