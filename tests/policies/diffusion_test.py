"""Tests of the diffusion policy; comments derive the golden numbers."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.utils import common

from parl_tf.policies import diffusion
from tests.policies import policy_conformance

_SEED = policy_conformance.SEED
_MODES = parameterized.named_parameters(
    ('eagerly', lambda fn: fn), ('in_a_graph', common.function)
)


def _make(network=None, **kwargs):
  return policy_conformance.make_denoising(
      diffusion.DiffusionPolicy, network, **kwargs
  )


class DiffusionConformanceTest(policy_conformance.PolicyConformance):

  def make_policy(self, **kwargs):
    return _make(**kwargs)

  def make_policy_of_two_modes(self):
    # With five denoising steps, a tenth of the samples lie between the modes.
    policy = _make(
        dict(hidden_size=64, dropout_rate=0.0), averaging_rate=0.03
    )
    return policy, 300, 5e-3


class ScheduleTest(parameterized.TestCase):

  @_MODES
  def test_cosine_schedule_of_five_steps(self, mode):
    # cos^2(((k / 5 + 0.008) / 1.008) pi / 2), k = 0 .. 5: 0.9998446, 0.8985663,
    # 0.6473776, 0.3407567, 0.0940310, 0. The betas are 1 minus the ratios of
    # neighbours, at most 0.999.
    betas = mode(diffusion.cosine_beta_schedule)(5)
    self.assertEqual(betas.dtype, tf.float32)
    np.testing.assert_allclose(
        betas, [0.1012941, 0.2795438, 0.4736354, 0.7240524, 0.999], rtol=1e-6
    )

  def test_cosine_schedule_of_one_step_is_clipped(self):
    np.testing.assert_allclose(
        diffusion.cosine_beta_schedule(1), [0.999], rtol=1e-6
    )

  def test_variance_preserving_schedule_of_five_steps(self):
    # 1 - beta = exp(-0.02 - 9.9 (2 t + 1) / 50); the exponents add up to -5.05.
    betas = diffusion.variance_preserving_beta_schedule(5)
    exponents = [0.218, 0.614, 1.01, 1.406, 1.802]
    np.testing.assert_allclose(
        betas, 1.0 - np.exp(-np.array(exponents)), rtol=1e-6
    )
    self.assertAlmostEqual(
        float(tf.reduce_prod(1.0 - betas)), np.exp(-5.05), places=6
    )

  def test_a_policy_has_the_schedule_of_its_name(self):
    policy = policy_conformance.make(
        diffusion.DiffusionPolicy,
        schedule='variance_preserving',
        num_denoising_steps=5,
    )
    np.testing.assert_array_equal(
        policy.betas, diffusion.variance_preserving_beta_schedule(5)
    )

  @parameterized.parameters(*diffusion.SCHEDULES.values())
  def test_a_schedule_without_steps_is_an_error(self, schedule):
    with self.assertRaisesRegex(ValueError, '`num_steps`.*0'):
      schedule(0)

  @_MODES
  def test_noise_is_added_by_variance(self, mode):
    # With alpha_bar = 0.64: 0.8 * 0.5 + 0.6 * -1 = -0.2 and
    # 0.8 * -1 + 0.6 * 2 = 0.4. With 0 only noise remains, with 1 only action.
    noisy = mode(diffusion.add_noise)(
        tf.constant([[0.5, -1.0], [0.5, -1.0], [0.5, -1.0]]),
        tf.constant([[-1.0, 2.0], [-1.0, 2.0], [-1.0, 2.0]]),
        tf.constant([0.64, 0.0, 1.0]),
    )
    np.testing.assert_allclose(
        noisy, [[-0.2, 0.4], [-1.0, 2.0], [0.5, -1.0]], atol=1e-6
    )

  @_MODES
  def test_denoised_mean_by_hand(self, mode):
    # alpha = 0.5625, 0.64; alpha_bar = 0.5625, 0.36. At t = 1: (1 - 0.36 /
    # 0.8 * 2) / 0.8 = 0.125 and (-0.5 - 0.45 * -1) / 0.8 = -0.0625. At t = 0:
    # (1 - 0.4375 / sqrt(0.4375) * 1) / 0.75 = 0.451416 and 0.5 / 0.75.
    mean = mode(diffusion.denoise_mean)(
        tf.constant([[1.0, -0.5], [1.0, 0.5]]),
        tf.constant([[2.0, -1.0], [1.0, 0.0]]),
        tf.constant([1, 0]),
        tf.constant([0.4375, 0.36]),
    )
    np.testing.assert_allclose(
        mean, [[0.125, -0.0625], [0.451416, 0.666667]], atol=1e-6
    )

  def test_denoising_the_only_step_recovers_the_action(self):
    action = tf.constant([[0.3, -0.9]])
    noise = tf.constant([[1.5, 0.2]])
    betas = tf.constant([0.75])
    noisy = diffusion.add_noise(action, noise, 1.0 - betas)
    np.testing.assert_allclose(
        diffusion.denoise_mean(noisy, noise, tf.constant([0]), betas),
        action,
        atol=1e-6,
    )

  def test_arguments_with_wrong_shapes_are_an_error(self):
    rows = tf.zeros([3, 2])
    with self.assertRaises(ValueError):
      diffusion.add_noise(rows, tf.zeros([2, 2]), tf.zeros([3]))
    with self.assertRaises(ValueError):
      diffusion.denoise_mean(
          rows, rows, tf.zeros([2], tf.int32), tf.constant([0.5])
      )


class DiffusionTest(parameterized.TestCase):

  def test_loss_of_a_zero_network_is_the_squared_noise(self):
    # The squared noise, summed over two dimensions, has mean 2 and variance 4.
    # The standard error of the mean of 4,000 rows is 0.03.
    policy = _make()
    for variable in policy.trainable_variables:
      variable.assign(tf.zeros_like(variable))
    loss = policy.distillation_loss(
        policy_conformance.make_observation(4000), tf.zeros([4000, 2]), _SEED
    )
    self.assertAlmostEqual(np.mean(loss), 2.0, delta=0.15)
    self.assertAlmostEqual(np.var(loss), 4.0, delta=0.8)

  def test_dropout_is_on_in_training_and_off_in_sampling(self):
    observation = policy_conformance.make_observation(4)
    actions = policy_conformance.make_actions(4)
    losses, samples = [], []
    for rate in (0.0, 0.5):
      policy = _make(dict(dropout_rate=rate))
      losses.append(policy.distillation_loss(observation, actions, _SEED))
      samples.append(policy.sample(observation, 5, _SEED))
    # Both losses use the same steps and noise.
    self.assertGreater(np.abs(losses[0] - losses[1]).min(), 1e-4)
    np.testing.assert_array_equal(samples[0], samples[1])

  def test_loss_depends_on_the_seed(self):
    policy = _make()
    observation = policy_conformance.make_observation(4)
    actions = policy_conformance.make_actions(4)
    first, again, other = (
        policy.distillation_loss(observation, actions, seed)
        for seed in (_SEED, _SEED, policy_conformance.OTHER_SEED)
    )
    np.testing.assert_array_equal(first, again)
    self.assertGreater(np.abs(first - other).min(), 0)

  def test_temperature_scales_the_noise_between_steps(self):
    # At temperature 0, only the initial noise remains.
    policy, observation = _make(), policy_conformance.make_observation(4)
    cold, warm = (
        policy.sample(observation, 5, _SEED, temperature=temperature)
        for temperature in (0.0, 1.0)
    )
    self.assertGreater(np.abs(cold - warm).max(), 0)
    self.assertGreater(np.ptp(cold, axis=1).max(), 0)

  def test_compiled_samples_equal_eager_ones(self):
    policy, observation = _make(), policy_conformance.make_observation(4)
    compiled = common.function(policy.sample, jit_compile=True)
    np.testing.assert_allclose(
        compiled(observation, 5, _SEED),
        policy.sample(observation, 5, _SEED),
        atol=1e-4,
    )

  @parameterized.parameters(
      (dict(averaging_rate=0.0), '`averaging_rate`.*0.0'),
      (dict(averaging_rate=1.5), '`averaging_rate`.*1.5'),
      (dict(num_denoising_steps=0), '`num_steps`.*0'),
      (dict(network=dict(dropout_rate=1.0)), '`rate`.*1.0'),
      (dict(schedule='linear'), "`schedule` must be .*'linear'"),
      (dict(network=dict(time_size=7)), '`size`.*7'),
  )
  def test_bad_arguments_are_an_error(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      _make(**arguments)
