"""Tests the policy in PyTorch of docs/your_policy.md, without PyTorch.

`docs_test` parses the gin file and the command that fine-tune it.
"""

import pathlib
import pickle
import runpy
import sys
import types
from unittest import mock

from absl.testing import absltest
import numpy as np

from parl_tf.serving import server
from tests import pages
from tests.serving import toy_policy

_PAGE = 'docs/your_policy.md'


class _Tensor(np.ndarray):
  """The methods of a tensor that the page uses and NumPy lacks."""

  def repeat_interleave(self, repeats, dim):
    return np.repeat(self, repeats, axis=dim)

  def numpy(self):
    return np.asarray(self)

  def backward(self):
    _Policy.gradient = np.sign(_Policy.error).mean(axis=0)


class _Adam:
  """Takes steps against the sign of the policy's gradient."""

  def __init__(self, parameters, lr):
    (self._offset,), self._rate = parameters, lr

  def zero_grad(self):
    _Policy.gradient = None

  def step(self):
    self._offset -= self._rate * _Policy.gradient


class _Policy:
  """Its samples are an offset plus noise."""

  error = gradient = None

  def __init__(self):
    self.offset = np.zeros([1, 4])
    self.is_training = True

  def sample(self, state):
    assert not self.is_training
    noise = np.random.normal(size=(len(state), 1, 4))
    return _tensor(self.offset + 0.01 * noise)

  def loss(self, state, actions):
    assert self.is_training and state.shape[1:] == (13,)
    _Policy.error = self.offset - actions
    return np.sum(_Policy.error**2, axis=-1)

  def parameters(self):
    return [self.offset]

  def state_dict(self):
    return {'offset': self.offset}

  def load_state_dict(self, weights):
    self.offset[:] = weights['offset']

  def train(self):
    self.is_training = True

  def eval(self):
    self.is_training = False
    return self


def _tensor(x):
  return np.array(x).view(_Tensor)


def _torch():
  """Returns a module with the functions that the page uses."""
  torch = types.ModuleType('torch')
  torch.load = lambda path, **_: pickle.loads(pathlib.Path(path).read_bytes())
  torch.save = lambda x, path: pathlib.Path(path).write_bytes(pickle.dumps(x))
  torch.cat = lambda tensors, dim: _tensor(np.concatenate(tensors, axis=dim))
  torch.randint = lambda high, size: np.random.randint(high, size=size)
  torch.manual_seed = np.random.seed
  torch.no_grad = lambda: lambda function: function
  torch.tensor = _tensor
  torch.optim = types.SimpleNamespace(Adam=_Adam)
  return torch


class TorchPolicyTest(absltest.TestCase):

  def test_it_is_sampled_trained_saved_and_loaded(self):
    folder = self.create_tempdir().full_path
    pages.save_files(_PAGE, folder)
    checkpoint = pathlib.Path(folder, 'policy.pt')
    checkpoint.write_bytes(pickle.dumps(_Policy()))
    program = [f'{folder}/serve_torch.py', str(checkpoint)]
    with (
        mock.patch.dict(sys.modules, torch=_torch()),
        mock.patch.object(sys, 'argv', program),
        mock.patch.object(server, 'serve') as serve,
    ):
      runpy.run_path(program[0], run_name='__main__')
    (sample, train), options = serve.call_args
    policy = server.Policy(
        sample, train, options.pop('save'), options.pop('load')
    )
    self.assertEqual(options.pop('directory'), 'versions')
    client = self.enter_context(
        toy_policy.connect(
            self.enter_context(
                toy_policy.serving(
                    policy, directory=f'{folder}/versions', **options
                )
            )
        )
    )
    states = {
        'observation': np.ones([3, 10], np.float32),
        'desired_goal': np.ones([3, 3], np.float32),
    }

    before = client.sample(states, 5, seed=1)
    client.save(before.version)
    again = client.sample(states, 5, seed=1)
    trained = client.train(
        states, np.ones([3, 1, 4]), num_steps=50, seed=0,
        version=before.version,
    )
    after = client.sample(states, 5, seed=1)
    client.load(before.version)
    loaded = client.sample(states, 5, seed=1)

    self.assertEqual(before.actions.shape, (3, 5, 1, 4))
    np.testing.assert_array_equal(before.actions, again.actions)
    self.assertGreater(np.ptp(before.actions[0, :, 0, 0]), 0.0)
    # Fifty steps of the page's learning rate.
    np.testing.assert_allclose(
        after.actions - before.actions, 0.005, atol=1e-6
    )
    self.assertEqual(after.version, trained.version)
    np.testing.assert_array_equal(loaded.actions, before.actions)


if __name__ == '__main__':
  absltest.main()
