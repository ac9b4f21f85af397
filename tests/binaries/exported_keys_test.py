"""Tests of exported policies whose observations have unusual keys."""

import os
from unittest import mock

from absl.testing import absltest
from dm_env import specs
import numpy as np

from parl_tf.binaries import exported_policy
from parl_tf.binaries import served_policy
from parl_tf.critics import iql
from parl_tf.policies import gaussian
from parl_tf.training import builder
from parl_tf.training import export
from tests.agents import small_agent

_SIZES = {'observation.state': 3, 'my-key': 2, '1st': 1, 'seed': 2}
_SEED = np.array([5, 11], np.int32)


class ExportedKeysTest(absltest.TestCase):

  def test_a_policy_is_exported_loaded_and_served_by_the_same_keys(self):
    domain = mock.Mock(
        raw_action_bounds=(-np.ones(2), np.ones(2)),
        **{
            'observation_spec.return_value': {
                key: specs.Array([size], np.float32)
                for key, size in _SIZES.items()
            },
            'action_spec.return_value': specs.Array([2], np.float32),
        },
    )
    policy = small_agent.make_agent(
        iql.IQLCritic,
        gaussian.GaussianPolicy,
        observation_spec=builder.observation_spec(domain),
    ).named_policies['base_policy']
    random = np.random.default_rng(0)
    observation = {
        key: random.normal(size=[4, size]).astype(np.float32)
        for key, size in _SIZES.items()
    }
    path = os.path.join(self.create_tempdir().full_path, 'policy')
    export.export_policies(
        {path: policy},
        domain.raw_action_bounds,
        observation,
        in_new_process=False,
    )
    wanted = np.reshape(policy.act(observation, _SEED), [4, 1, 2])

    loaded = exported_policy.ExportedPolicy(path, domain)
    np.testing.assert_allclose(
        loaded(observation, _SEED), wanted[:, 0], atol=1e-5
    )
    act, spec, _ = served_policy.exported_policy(path)
    self.assertEqual(set(spec.observation), set(_SIZES))
    np.testing.assert_allclose(act(observation, _SEED), wanted, atol=1e-5)

  def test_a_key_that_cannot_be_exported_is_refused_at_the_start(self):
    domain = mock.Mock(
        **{
            'observation_spec.return_value': {
                'my key': specs.Array([2], np.float32)
            }
        }
    )
    with self.assertRaisesRegex(ValueError, "got 'my key'"):
      builder.observation_spec(domain)


if __name__ == '__main__':
  absltest.main()
