"""Tests of the values of a policy's noise."""

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf.critics import noise_aliased
from parl_tf.critics import td
from parl_tf.policies import gaussian
from tests import tensor_case
from tests.critics import critic_conformance

_SEED = critic_conformance.SEED


class _NegatedNoise(gaussian.GaussianPolicy):
  """Transports noise to minus half of it."""

  def transport(self, observation, noise):
    del observation
    return -0.5 * noise


def _make_policy():
  return _NegatedNoise(
      critic_conformance.SPEC._replace(seed=1), hidden_sizes=(8,)
  )


class NoiseAliasedConformanceTest(critic_conformance.CriticConformance):

  def make_critic(self, **kwargs):
    return critic_conformance.make(noise_aliased.NoiseAliasedCritic, **kwargs)

  def make_policy(self):
    return _make_policy()


class NoiseAliasedTest(tensor_case.TensorCase):

  def test_noise_values_regress_on_the_values_of_its_actions(self):
    critic = critic_conformance.make(
        noise_aliased.NoiseAliasedCritic, value_aggregation='min'
    )
    plain = critic_conformance.make(td.TDCritic, value_aggregation='min')
    transition = critic_conformance.make_transition(4)
    source = critic_conformance.make_source(critic, _make_policy(), transition)
    loss = critic.loss(transition, source, _SEED)
    td_loss = plain.loss(transition, source, _SEED).per_example

    observation = transition.time_step.observation
    noise = randomness.normal(
        randomness.fold_in(_SEED, 'noise'), tf.constant([4, 1, 2])
    )
    target = critic.bind(observation).members(-0.5 * noise).numpy().min(axis=0)
    # The heads of Q_w have no weights: its members return 1, 2, 3 after this.
    head = [v for v in critic._noise_network.weights if 'head' in v.name]
    kernel, bias = head
    kernel.assign(tf.zeros_like(kernel))
    bias.assign(np.reshape([1.0, 2.0, 3.0], [3, 1, 1]))
    self.assertAllClose(
        critic.noise_value(observation, noise), np.ones([4, 1])
    )
    seen = critic.loss(transition, source, _SEED).per_example - td_loss
    errors = [np.square(x - target[:, 0]) for x in (1.0, 2.0, 3.0)]
    self.assertAllClose(seen, np.mean(errors, axis=0), rtol=1e-4, atol=1e-4)
    self.assertNotAllEqual(loss.per_example, td_loss)


if __name__ == '__main__':
  absltest.main()
