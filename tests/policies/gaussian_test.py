"""Tests of the Gaussian policy."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from parl_tf.policies import gaussian
from tests.policies import policy_conformance

_SEED = policy_conformance.SEED


def _make(**kwargs):
  return policy_conformance.make(
      gaussian.GaussianPolicy, **{'hidden_sizes': (16,), **kwargs}
  )


class GaussianConformanceTest(policy_conformance.PolicyConformance):

  is_multimodal = False

  def make_policy(self, **kwargs):
    return _make(**kwargs)


def _make_linear(**kwargs):
  """Returns a policy without hidden layers, its kernel, bias and inputs."""
  policy = _make(hidden_sizes=(), **kwargs)
  kernel, bias = policy.trainable_variables
  observation = policy_conformance.make_observation(4)
  features = tf.concat(
      [(observation['position'] - 1.0) / 2.0, observation['velocity']], axis=-1
  )
  return policy, kernel, bias, observation, features


class GaussianTest(parameterized.TestCase):

  def _distribution(self, mean, log_std):
    return tfp.distributions.TransformedDistribution(
        tfp.distributions.MultivariateNormalDiag(mean, tf.exp(log_std)),
        tfp.bijectors.Tanh(),
    )

  def test_density_matches_a_squashed_normal_distribution(self):
    policy, kernel, bias, observation, features = _make_linear()
    bias.assign([0.3, -0.2, -1.0, 0.2])
    mean, log_std = tf.split(features @ kernel + bias, 2, axis=-1)
    distribution = self._distribution(
        mean[:, tf.newaxis], log_std[:, tf.newaxis]
    )
    actions, log_probs = policy.sample_with_log_prob(observation, 50, _SEED)
    inside = np.all(np.abs(actions) < 0.999, axis=-1)
    self.assertGreater(np.mean(inside), 0.7)
    np.testing.assert_allclose(
        log_probs[inside], distribution.log_prob(actions)[inside], atol=5e-3
    )

  def test_density_is_finite_for_large_means(self):
    policy, kernel, bias, observation, _ = _make_linear()
    kernel.assign(tf.zeros_like(kernel))
    bias.assign([30.0, -30.0, 0.0, 0.0])
    actions, log_probs = policy.sample_with_log_prob(observation, 5, _SEED)
    np.testing.assert_array_equal(tf.sign(actions), np.tile([1, -1], [4, 5, 1]))
    # log(1 - tanh(x)^2) tends to log 4 - 2 |x|. With |x| = 30 + z, the density
    # is about exp(2 * 60 - 2 log 4).
    self.assertTrue(np.all(np.isfinite(log_probs)))
    np.testing.assert_allclose(log_probs, np.full([4, 5], 115.0), atol=25.0)

  def test_distillation_is_the_negative_log_likelihood(self):
    policy, kernel, bias, observation, features = _make_linear()
    bias.assign([0.3, -0.2, -1.0, 0.2])
    mean, log_std = tf.split(features @ kernel + bias, 2, axis=-1)
    actions = 0.9 * policy_conformance.make_actions(4)
    np.testing.assert_allclose(
        policy.distillation_loss(observation, actions, _SEED),
        -self._distribution(mean, log_std).log_prob(actions),
        rtol=1e-4,
        atol=1e-4,
    )

  def test_distillation_by_hand(self):
    # Mean 0, standard deviation 1, action (0, 0): atanh is 0 with slope 1. The
    # loss is log(2 pi) / 2 = 0.918939 per dimension.
    policy, kernel, bias, observation, _ = _make_linear()
    kernel.assign(tf.zeros_like(kernel))
    bias.assign(tf.zeros_like(bias))
    np.testing.assert_allclose(
        policy.distillation_loss(observation, tf.zeros([4, 2]), _SEED),
        np.full([4], 1.837877),
        rtol=1e-5,
    )

  def test_distillation_clips_actions_to_1e_5_inside_the_bounds(self):
    policy, observation = _make(), policy_conformance.make_observation(4)
    at, inside = (
        policy.distillation_loss(observation, tf.fill([4, 2], x), _SEED)
        for x in (1.0, 1.0 - 1e-5)
    )
    np.testing.assert_array_equal(at, inside)

  def test_temperature_scales_the_noise_and_0_is_the_mode(self):
    policy, _, bias, observation, _ = _make_linear()
    bias.assign([0.0, 0.0, -2.0, -2.0])  # Keeps atanh accurate.
    before_tanh = [
        tf.atanh(policy.sample(observation, 5, _SEED, temperature=temperature))
        for temperature in (0.0, 0.25, 0.5)
    ]
    np.testing.assert_allclose(
        before_tanh[2] - before_tanh[0],
        2.0 * (before_tanh[1] - before_tanh[0]),
        atol=1e-3,
    )
    mode = policy.sample(observation, 5, _SEED, temperature=0.0)
    np.testing.assert_array_equal(mode, tf.tile(mode[:, :1], [1, 5, 1]))
    np.testing.assert_array_equal(
        policy.sample(
            observation, 5, policy_conformance.OTHER_SEED, temperature=0.0
        ),
        mode,
    )

  @parameterized.parameters((9.0, -1.0), (-9.0, -2.0))
  def test_log_standard_deviation_is_bounded(self, output, bound):
    policy, kernel, bias, observation, _ = _make_linear(
        min_log_std=-2.0, max_log_std=-1.0
    )
    kernel.assign(tf.zeros_like(kernel))
    bias.assign([0.0, 0.0, output, output])
    actions = policy.sample(observation, 2000, _SEED)
    # The standard deviation of 16,000 draws has a relative error of 0.6 %.
    np.testing.assert_allclose(
        np.std(tf.atanh(actions)), np.exp(bound), rtol=0.03
    )

  def test_one_gaussian_fills_the_gap_between_two_modes(self):
    # atanh(0.7) = 0.867: mean 0 and standard deviation 0.867 fit best. A third
    # of the draws, P(|z| < atanh(0.35) / 0.867 = 0.42), lie between the modes.
    policy = _make(hidden_sizes=())
    policy_conformance.distill(policy, [-0.7, 0.7], 300, 0.01)
    actions = policy_conformance.draw(policy, 1000)
    self.assertBetween(np.mean(np.abs(actions) < 0.35), 0.25, 0.4)

  def test_bounds_out_of_order_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`min_log_std`.*1.0 and 0.0'):
      _make(min_log_std=1.0, max_log_std=0.0)
