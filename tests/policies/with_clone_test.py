"""Tests of a policy that its clone helps to propose actions."""

import functools
import types

from absl.testing import absltest

from parl_tf import randomness
from parl_tf.policies import gaussian
from parl_tf.policies import with_clone
from parl_tf.search import action_source
from tests import tensor_case
from tests.policies import policy_conformance

_SEED = policy_conformance.SEED
_BASE = functools.partial(gaussian.GaussianPolicy, hidden_sizes=(16,))


def _make(base_ctor=_BASE, **kwargs):
  return policy_conformance.make(
      with_clone.PolicyWithClone, base_ctor=base_ctor, **kwargs
  )


class WithCloneConformanceTest(policy_conformance.PolicyConformance):

  is_multimodal = False  # The policy is Gaussian.

  def make_policy(self, **kwargs):
    return _make(**kwargs)


class WithCloneTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    self.observation = policy_conformance.make_observation(4)

  def test_the_clone_draws_its_share_and_stays(self):
    policy = _make()
    before = policy.base.sample(
        self.observation, 2, randomness.fold_in(_SEED, 'clone')
    )
    policy.keep_clone()
    for variable in policy.trainable_variables:
      variable.assign_add(0.1 * (variable + 1.0))
    policy.update_average()

    actions = policy.sample(self.observation, 7, _SEED, clone_share=0.4)
    drawn = policy.base.sample(self.observation, 5, _SEED)
    self.assertAllEqual(actions[:, :5], drawn)
    self.assertAllEqual(actions[:, 5:], before)
    self.assertNotAllEqual(actions[:, :2], before)

    policy.keep_clone()
    for kept, variable in zip(
        policy.clone.variables, policy.base.variables, strict=True
    ):
      self.assertAllEqual(kept, variable)

  def test_without_a_share_and_for_one_sample_it_is_the_policy(self):
    policy = _make()
    for variable in policy.clone.variables:
      variable.assign(variable + 1.0)
    for num_samples, share in ((3, 0.0), (1, 0.9)):
      self.assertAllEqual(
          policy.sample(
              self.observation, num_samples, _SEED, clone_share=share
          ),
          policy.base.sample(self.observation, num_samples, _SEED),
      )
    self.assertTrue(policy.has_density)
    self.assertAllEqual(
        policy.sample_with_log_prob(self.observation, 3, _SEED)[1],
        policy.base.sample_with_log_prob(self.observation, 3, _SEED)[1],
    )

  def test_a_search_asks_for_its_share(self):
    policy = _make()
    search = action_source.Search(num_samples=4, clone_share=0.5)
    self.assertAllEqual(
        search.sample(policy, self.observation, _SEED),
        policy.sample(self.observation, 4, _SEED, clone_share=0.5),
    )
    other = action_source.Search(num_samples=4)
    self.assertFalse(search.equals(other))
    self.assertAllEqual(
        other.sample(policy, self.observation, _SEED),
        policy.base.sample(self.observation, 4, _SEED),
    )

  def test_only_the_policy_is_trained(self):
    policy = _make()
    trained = {id(v) for v in policy.trainable_variables}
    self.assertEqual(trained, {id(v) for v in policy.base.trainable_variables})
    self.assertIs(policy.cloned, policy.base)
    self.assertIs(policy.without_clone, policy.base)

  def test_a_policy_that_cannot_be_copied_is_an_error(self):
    for name in ('is_served', 'adapters'):
      base = types.SimpleNamespace(
          **{'is_served': False, 'adapters': None, name: True},
          jit_compile_sampling=False,
      )
      with self.assertRaisesRegex(
          ValueError, '`Search.clone_share` must be 0 .*Namespace'
      ):
        _make(base_ctor=lambda _, base=base: base)


if __name__ == '__main__':
  absltest.main()
