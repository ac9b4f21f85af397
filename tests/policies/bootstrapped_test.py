"""Tests of the policies of IBRL."""

import functools

from absl.testing import absltest
import numpy as np

from parl_tf import randomness
from parl_tf.policies import bootstrapped
from parl_tf.policies import gaussian
from tests import tensor_case
from tests.policies import policy_conformance

_SEED = policy_conformance.SEED
_BASE = functools.partial(gaussian.GaussianPolicy, hidden_sizes=(16,))


def _make(**kwargs):
  kwargs = {**dict(base_ctor=_BASE, hidden_sizes=(16,)), **kwargs}
  return policy_conformance.make(bootstrapped.BootstrappedPolicy, **kwargs)


class BootstrappedConformanceTest(policy_conformance.PolicyConformance):

  is_multimodal = False  # The imitation policy is Gaussian.

  def make_policy(self, **kwargs):
    return _make(averaging_rate=None, **kwargs)


class BootstrappedTest(tensor_case.TensorCase):

  def test_samples_are_imitations_then_noisy_actions_of_the_actor(self):
    policy = _make(noise_std=0.2, max_noise=0.3)
    observation = policy_conformance.make_observation(4)
    actions = policy.sample(observation, 7, _SEED)
    base = policy.base.sample(
        observation, 4, randomness.fold_in(_SEED, 'base')
    )
    self.assertAllEqual(actions[:, :4], base)
    mean = policy.act(observation, 3, _SEED, averaged=True, temperature=0.0)
    self.assertAllEqual(mean[:, 0], mean[:, 2])
    noise = np.abs(actions[:, 4:] - mean)
    self.assertLessEqual(noise.max(), 0.3 + 1e-6)
    self.assertGreater(noise.min(), 0.0)
    # A single sample imitates.
    one = policy.base.sample(observation, 1, randomness.fold_in(_SEED, 'base'))
    self.assertAllEqual(policy.sample(observation, 1, _SEED), one)

  def test_dropout_needs_its_seed(self):
    policy = _make(dropout_rate=0.5, noise_std=0.0)
    observation = policy_conformance.make_observation(4)
    act = functools.partial(policy.act, observation, 1, _SEED, averaged=False)
    self.assertAllEqual(act(), act())
    self.assertNotAllEqual(act(), act(dropout_seed=_SEED))

  def test_the_actors_average_follows_its_weights(self):
    policy = _make(averaging_rate=0.25)
    observation = policy_conformance.make_observation(4)

    def act(averaged):
      return policy.act(
          observation, 1, _SEED, averaged=averaged, temperature=0.0
      ).numpy()

    before = act(True)
    for variable in policy.improver_variables:
      variable.assign(-variable)
    policy.update_average()  # That of the imitation policy.
    self.assertAllEqual(act(True), before)
    self.assertNotAllEqual(act(False), before)
    for _ in range(100):
      policy.update_actor_average()
    self.assertAllClose(act(True), act(False), atol=1e-4)

  def test_bad_arguments_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`noise_std`.*-0.1 and 0.3'):
      _make(noise_std=-0.1)


if __name__ == '__main__':
  absltest.main()
