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
  return tf.zeros(tf.shape(action)[:1])


def _samples(actions):
  return lambda self, *args, **kwargs: tf.constant(actions, tf.float32)


class PolicyCheckTest(parameterized.TestCase):

  def test_a_policy_that_keeps_the_protocol_passes(self):
    _check(_policy())
    _check(small_agent.make_policy())
    # Rounding, and zeros that are no valid observation.
    for number in 1.0000001, np.nan:
      _check(_policy(sample=_samples(np.full([11, 9, 2], number))))

  @parameterized.parameters(
      (np.zeros([11, 2]), r'sample .* \[11, 9, 2\], got float32 of \[11, 2\]'),
      (np.full([11, 9, 2], 1.5), r'in \[-1, 1\], got 1.5 to 1.5'),
  )
  def test_wrong_samples_are_refused(self, actions, message):
    with self.assertRaisesRegex(ValueError, message):
      _check(_policy(sample=_samples(actions)))

  @parameterized.parameters(
      ([9, 11, 2], [1, 0, 2]), ([9, 2], None)  # N first, or no batch
  )
  def test_draws_without_the_batch_first_are_refused(self, shape, order):
    def sample(self, observation, num_samples, seed, averaged, temperature):
      del self, num_samples, averaged, temperature
      size = len(observation)
      draws = randomness.uniform(
          seed, [size if x == 11 and order else x for x in shape[:-1]] + [2],
          low=-1.0, high=1.0,
      )
      if order is not None:
        return tf.transpose(draws, order)
      return tf.tile(draws[tf.newaxis], [size, 1, 1])

    with self.assertRaisesRegex(ValueError, 'must draw the same actions for a'):
      _check(_policy(sample=sample))

  def test_draws_that_ignore_the_seed_are_refused(self):
    random = np.random.default_rng(0)

    def sample(self, *args, **kwargs):
      del self, args, kwargs
      return tf.constant(random.uniform(-1, 1, [11, 9, 2]), tf.float32)

    with self.assertRaisesRegex(ValueError, 'same actions for the same seed'):
      _check(_policy(sample=sample))

  def test_draws_of_a_constant_seed_are_named(self):
    def sample(self, observation, *args, **kwargs):
      del self, args, kwargs
      return randomness.uniform(
          tf.constant([0, 1]), [tf.shape(observation)[0], 9, 2], low=-1.0,
          high=1.0,
      )

    with self.assertLogs(level='WARNING') as log:
      _check(_policy(sample=sample))
    self.assertIn('MyPolicy.sample draws the same actions for', log.output[0])

  def test_a_policy_that_cannot_be_traced_is_refused(self):
    def loss(self, observation, action, seed):
      del self, seed
      return tf.constant(np.sum(observation.numpy(), 1) + action[:, 0].numpy())

    with self.assertRaisesRegex(
        ValueError,
        r'cannot trace MyPolicy.distillation_loss: .*numpy.*'
        r'policy_check_test.py, line \d+\)',
    ):
      _check(_policy(distillation_loss=loss))

  def test_variables_of_a_first_call_are_refused(self):
    layer = tf.keras.layers.Dense(1, name='late')

    def loss(self, observation, action, seed):
      del action, seed
      self.late = layer
      return layer(observation)[:, 0]

    with self.assertRaisesRegex(
        ValueError, 'MyPolicy must create .* call created late/kernel:0, late/b'
    ):
      _check(_policy(distillation_loss=loss))

  def test_variables_that_are_not_trained_are_named(self):
    policy = _policy(
        trainable_variables=property(
            lambda self: gaussian.GaussianPolicy.trainable_variables.fget(self)[
                1:
            ]
        )
    )
    with self.assertLogs(level='WARNING') as log:
      _check(policy)
    self.assertRegex(
        log.output[0], 'MyPolicy.trainable_variables lacks .*, on which its'
    )

  def test_samples_of_another_dtype_are_refused(self):
    def sample(self, *args, **kwargs):
      del self, args, kwargs
      return tf.zeros([11, 9, 2], tf.float64)

    with self.assertRaisesRegex(ValueError, 'float32 of shape.*got float64'):
      _check(_policy(sample=sample))

  def test_a_loss_that_is_a_mean_is_refused(self):
    with self.assertRaisesRegex(
        ValueError, r'distillation_loss .* here \[11\], got float32 of \[\]'
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
