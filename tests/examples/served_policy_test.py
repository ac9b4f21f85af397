"""Tests the example of a served policy."""

import importlib.util
import pathlib

from absl.testing import absltest
import h5py
import numpy as np

from parl_tf.serving import policy_spec
from parl_tf.serving import server
from tests import build_files
from tests.serving import toy_policy

_PATH = build_files.ROOT / 'examples' / 'served_policy' / 'server.py'


class ServedPolicyTest(absltest.TestCase):

  def test_served_neighbors_are_sampled_and_trained(self):
    spec = importlib.util.spec_from_file_location('served_policy', _PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = pathlib.Path(self.create_tempdir().full_path, 'data.hdf5')
    states = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    with h5py.File(path, 'w') as file:
      file['observations'] = states
      file['actions'] = np.sign(states[:, :2])
    policy = module.Neighbors(path)
    policy_server = self.enter_context(
        toy_policy.serving(
            server.Policy(policy.sample, policy.train),
            policy_spec.PolicySpec(
                {'observation': policy_spec.ArraySpec((4,))}, action_size=2
            ),
        )
    )
    client = self.enter_context(toy_policy.connect(policy_server))
    far = {'observation': np.full([1, 4], 3.0, np.float32)}

    samples = client.sample(far, 32, seed=0)

    self.assertEqual(samples.actions.shape, (1, 32, 1, 2))
    # The mean over all ten neighbors is 0.5, over all states about 0.
    self.assertGreater(np.mean(samples.actions), 0.2)
    trained = client.train(
        {'observation': states},
        np.full([100, 1, 2], -1.0),
        num_steps=1,
        seed=0,
        version=samples.version,
    )
    again = client.sample(far, 32, seed=0, version=trained.version)
    self.assertLess(np.mean(again.actions), -0.9)


if __name__ == '__main__':
  absltest.main()
