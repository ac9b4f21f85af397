"""Tests of the denoising chain as a decision process."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from parl_tf.policies import denoising_chain
from parl_tf.policies import diffusion
from parl_tf.policies import gaussian
from tests import tensor_case
from tests.agents import small_agent

_SEED = tf.constant([7, 11], tf.int32)
_NUM_STEPS = 3


def _make_policy():
  return small_agent.make_policy(num_denoising_steps=_NUM_STEPS)


def _make_observation():
  return tf.constant(np.random.default_rng(0).normal(size=[5, 3]), tf.float32)


class DenoisingChainTest(tensor_case.TensorCase):

  def test_without_a_minimum_std_it_draws_the_policys_actions(self):
    policy = _make_policy()
    chain = denoising_chain.DenoisingChain(policy, min_sampling_std=0.0)
    action, _ = chain.sample(_make_observation(), _SEED)
    wanted = policy.sample(_make_observation(), 1, _SEED, averaged=False)
    self.assertAllClose(action, wanted[:, 0])

  def test_inputs_are_the_clipped_draws(self):
    chain = denoising_chain.DenoisingChain(_make_policy())
    action, steps = chain.sample(_make_observation(), _SEED)
    clipped = np.clip(steps.draws, -1.0, 1.0)
    self.assertNotAllEqual(clipped, steps.draws)
    self.assertAllEqual(steps.inputs[:, 1:], clipped[:, :-1])
    self.assertAllEqual(action, clipped[:, -1])

  def test_likelihood_matches_tensorflow_probability(self):
    chain = denoising_chain.DenoisingChain(
        _make_policy(), min_sampling_std=0.3, min_log_prob_std=0.2
    )
    _, steps = chain.sample(_make_observation(), _SEED)
    # The policy adds no noise in the last step.
    deviations = np.sqrt(diffusion.cosine_beta_schedule(_NUM_STEPS))
    deviations[0] = 0.0
    deviations = np.maximum(deviations, 0.2)
    for column in range(_NUM_STEPS):
      t = _NUM_STEPS - 1 - column
      draws = steps.draws[:, column]
      with tf.GradientTape() as tape:
        tape.watch(draws)
        log_prob = chain.log_prob(
            _make_observation(), steps.inputs[:, column], draws, tf.fill([5], t)
        )
      # The gradient of a Gaussian's log density gives its mean.
      mean = draws + deviations[t] ** 2 * tape.gradient(log_prob, draws)
      normal = tfp.distributions.MultivariateNormalDiag(
          mean, tf.fill([5, 2], deviations[t])
      )
      self.assertAllClose(log_prob, normal.log_prob(draws), 1e-4, 1e-4)
      self.assertAllClose(log_prob, steps.log_probs[:, column], 1e-4, 1e-4)

  def test_draws_have_the_minimum_standard_deviation(self):
    # The policy adds no noise if there is only one step.
    policy = small_agent.make_policy(num_denoising_steps=1)
    observation = tf.repeat(_make_observation()[:1], 20_000, axis=0)
    floors = [
        denoising_chain.DenoisingChain(policy, min_sampling_std=x).sample(
            observation, _SEED
        )[1].draws
        for x in (0.0, 0.1)
    ]
    # With the same seed, both differ only in the noise of the step.
    self.assertAllClose(
        np.std(floors[1] - floors[0], axis=(0, 1)), [0.1, 0.1], atol=2e-3
    )

  def test_fine_tuning_can_be_limited_to_the_last_steps(self):
    policy = _make_policy()
    _, steps = denoising_chain.DenoisingChain(policy).sample(
        _make_observation(), _SEED
    )
    _, last = denoising_chain.DenoisingChain(
        policy, num_fine_tuned_steps=2
    ).sample(_make_observation(), _SEED)
    for seen, wanted in zip(last, steps):
      self.assertAllEqual(seen, wanted[:, 1:])

  def test_other_policies_and_too_many_steps_are_errors(self):
    with self.assertRaisesRegex(TypeError, 'DiffusionPolicy.*GaussianPolicy'):
      denoising_chain.DenoisingChain(
          small_agent.make_policy(gaussian.GaussianPolicy)
      )
    with self.assertRaisesRegex(ValueError, r'\[1, 3\].*got 4'):
      denoising_chain.DenoisingChain(_make_policy(), num_fine_tuned_steps=4)


if __name__ == '__main__':
  tf.test.main()
