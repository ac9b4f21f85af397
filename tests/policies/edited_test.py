"""Tests of the policy with edits."""

import functools
import math

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf.networks import vision_language_transformer
from parl_tf.policies import edited
from parl_tf.policies import gaussian
from parl_tf.policies import vla
from tests import tensor_case
from tests.policies import policy_conformance

_SEED = policy_conformance.SEED
_BASE = functools.partial(gaussian.GaussianPolicy, hidden_sizes=(16,))


def _make(**kwargs):
  kwargs = {**dict(base_ctor=_BASE, hidden_sizes=(16,)), **kwargs}
  return policy_conformance.make(edited.EditedPolicy, **kwargs)


class EditedConformanceTest(policy_conformance.PolicyConformance):

  is_multimodal = False  # The base policy is Gaussian.

  def make_policy(self, **kwargs):
    return _make(**kwargs)


class EditedTest(tensor_case.TensorCase):

  def test_the_second_half_of_the_samples_edits_the_first(self):
    policy = _make(scale=0.2)
    observation = policy_conformance.make_observation(4)
    actions = policy.sample(observation, 7, _SEED).numpy()
    base, edits = actions[:, :4], actions[:, 4:]
    change = np.abs(edits - base[:, :3])
    self.assertLessEqual(change.max(), 0.2 + 1e-6)
    self.assertGreater(np.mean(change > 0.0), 0.9)  # Or clipped.
    # A single sample is the base policy's.
    self.assertAllEqual(
        policy.sample(observation, 1, _SEED)[:, 0],
        policy.base.sample(
            observation, 1, randomness.fold_in(_SEED, 'base')
        )[:, 0],
    )

  def test_a_base_with_adapters_is_cloned_by_its_weights(self):
    base = functools.partial(
        vla.LowRankPolicy,
        base_ctor=functools.partial(
            vla.VLAPolicy,
            network_ctor=functools.partial(
                vision_language_transformer.VisionLanguageTransformer,
                width=8, num_blocks=1, num_heads=2,
            ),
        ),
        rank=1,
    )
    policy = _make(base_ctor=base)

    self.assertIs(policy.cloned, policy.base.base)
    self.assertIs(policy.adapters, policy.base.adapters)

  def test_density_is_that_of_a_scaled_squashed_normal(self):
    policy = _make(scale=0.1, hidden_sizes=())
    kernel, bias = policy.improver_variables
    kernel.assign(tf.zeros_like(kernel))
    bias.assign([0.5, 0.0, math.log(0.2), math.log(0.4)])
    base = tf.zeros([3, 2, 2])
    actions, log_probs = policy.edit(
        policy_conformance.make_observation(3), base, _SEED
    )
    x = np.arctanh(actions.numpy().astype(np.float64) / 0.1)
    mean, std = np.array([0.5, 0.0]), np.array([0.2, 0.4])
    log_normal = (
        -0.5 * ((x - mean) / std) ** 2 - np.log(std * np.sqrt(2.0 * np.pi))
    )
    # d(0.1 tanh x) / dx = 0.1 (1 - tanh^2 x).
    expected = log_normal - np.log(0.1 * (1.0 - np.tanh(x) ** 2))
    self.assertAllClose(log_probs, expected.sum(axis=-1), rtol=1e-3)

  def test_edits_depend_on_the_action_and_stay_in_bounds(self):
    policy = _make(scale=0.5)
    observation = policy_conformance.make_observation(4)
    edits = []
    for base in (0.0, 0.3, 1.0):
      action, _ = policy.edit(observation, tf.fill([4, 3, 2], base), _SEED)
      edits.append(action.numpy() - base)
    self.assertGreater(np.abs(edits[1] - edits[0]).max(), 1e-3)
    self.assertLessEqual(edits[2].max(), 0.0)

  def test_bad_arguments_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`scale`.*0.0'):
      _make(scale=0.0)
    with self.assertRaisesRegex(ValueError, '`min_log_std`.*3.0 and 2.0'):
      _make(min_log_std=3.0)


if __name__ == '__main__':
  absltest.main()
