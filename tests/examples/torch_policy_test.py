"""Tests the example of a policy in PyTorch.

The test marked `full` installs PyTorch into an environment of its own, which
needs 6 GB of disk.
"""

import os
import runpy
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
import h5py
import numpy as np
import pytest

from parl_tf.serving import client as client_lib
from tests import build_files
from tests.domains import example_server
from tests.examples import own_environment

_EXAMPLE = build_files.ROOT / 'examples' / 'torch_policy'
_PACKAGES = ('torch', 'numpy', 'h5py', 'msgpack', 'websockets>=15')


class TorchImportsTest(absltest.TestCase):

  def test_no_file_of_the_example_imports_tensorflow(self):
    found = own_environment.imports(_EXAMPLE)
    self.assertContainsSubset(['torch', 'parl_tf.serving'], found)
    # `dependency_test` checks that this package imports no TensorFlow.
    self.assertNoCommonElements(found, {'tensorflow', 'tf_agents', 'gin'})
    self.assertLen([x for x in found if x.startswith('parl_tf')], 1)


class ReadTest(absltest.TestCase):

  def _error(self, loaded):
    """Returns the message of `read`, without PyTorch."""
    torch = mock.MagicMock()
    torch.nn.Module = _Module
    torch.load.return_value = loaded
    stand_ins = {
        'torch': torch, 'torch.optim': torch.optim, 'torch.nn': torch.nn
    }
    with mock.patch.dict(sys.modules, stand_ins):
      read = runpy.run_path(str(_EXAMPLE / 'serve.py'))['read']
    with self.assertRaises(TypeError) as raised:
      read('policy.pt', 'cpu')
    return str(raised.exception)

  def test_a_checkpoint_is_no_module(self):
    error = self._error({'model': {}, 'epoch': 3})
    self.assertIn("got dict with the keys ['model', 'epoch']", error)

  def test_a_missing_method_is_named(self):
    self.assertIn('_Module in policy.pt must have the method `loss`',
                  self._error(_Module()))


class _Module:

  def sample(self, state):
    return state


@pytest.mark.full
class TorchPolicyTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._python = own_environment.make(cls, 'PARL_TORCH_PYTHON', [_PACKAGES])

  def test_a_clone_is_sampled_fitted_saved_and_loaded(self):
    directory = self.create_tempdir().full_path
    path = os.path.join(directory, 'data.hdf5')
    states = np.random.default_rng(0).normal(size=(512, 3)).astype(np.float32)
    with h5py.File(path, 'w') as file:
      file['observations'] = states
      file['actions'] = np.tanh(states[:, :2])
    self._policy = os.path.join(directory, 'policy.pt')
    subprocess.run(
        [self._python, str(_EXAMPLE / 'train.py'), path, self._policy,
         '--steps=600'],
        check=True,
    )
    # The state has two parts, in this order.
    parts = {'position': states[:64, :1], 'rest': states[:64, 1:]}
    client = self._serve(directory)

    before = client.sample(parts, 8, seed=5)
    client.save(before.version)
    again = client.sample(parts, 8, seed=5)
    other = client.sample(parts, 8, seed=6)
    modes = client.sample(parts, 8, seed=6, temperature=0.0)
    trained = client.train(
        parts, np.full([64, 1, 2], 0.5), num_steps=200, seed=0,
        version=before.version,
    )
    client.save(trained.version)
    after = client.sample(parts, 8, seed=5)
    client.load(before.version)
    repeated = client.train(
        parts, np.full([64, 1, 2], 0.5), num_steps=200, seed=0,
        version=before.version,
    )
    another = self._serve(directory)
    another.load(trained.version)
    loaded = another.sample(parts, 8, seed=5)

    self.assertEqual(before.actions.shape, (64, 8, 1, 2))
    wanted = np.tanh(states[:64, np.newaxis, np.newaxis, :2])
    self.assertLess(np.mean(np.abs(before.actions - wanted)), 0.25)
    np.testing.assert_array_equal(before.actions, again.actions)
    self.assertFalse(np.array_equal(before.actions, other.actions))
    self.assertLess(np.max(np.std(modes.actions, axis=1)), 1e-6)
    self.assertLess(
        np.mean(np.abs(modes.actions - wanted)),
        np.mean(np.abs(other.actions - wanted)),
    )
    self.assertLess(np.mean(np.abs(after.actions - 0.5)), 0.2)
    self.assertEqual(trained.version, repeated.version)
    for name, losses in trained.losses.items():
      np.testing.assert_array_equal(losses, repeated.losses[name])
    np.testing.assert_array_equal(after.actions, loaded.actions)

  def _serve(self, directory):
    """Returns a client of a new server of the base."""
    port = example_server.free_port()
    server = subprocess.Popen([
        self._python, str(_EXAMPLE / 'serve.py'), self._policy,
        '--observation=position=1', '--observation=rest=2', '--action_size=2',
        f'--port={port}', f'--directory={os.path.join(directory, "versions")}',
        '--learning_rate=0.003',
    ])
    self.addCleanup(server.wait)
    self.addCleanup(server.terminate)
    return self.enter_context(
        client_lib.PolicyClient(f'127.0.0.1:{port}', patience_seconds=60)
    )


if __name__ == '__main__':
  absltest.main()
