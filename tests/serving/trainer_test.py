"""Tests that one client at a time trains a policy."""

from absl.testing import absltest
import numpy as np

from parl_tf.serving import client as client_lib
from tests.serving import toy_policy


def _train(client, version='initial'):
  return client.train(
      toy_policy.observation(2), np.ones([2, 4, 2]), num_steps=1, seed=0,
      version=version,
  ).version


class TrainerTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.server = self.enter_context(
        toy_policy.serving(
            toy_policy.ToyPolicy().functions(),
            directory=self.create_tempdir().full_path,
        )
    )

  def _connect(self, name):
    client = self.enter_context(toy_policy.connect(self.server))
    client.name = name
    return client

  def test_another_client_cannot_change_the_weights_meanwhile(self):
    first, second = self._connect('run A'), self._connect('run B')
    first.save('initial')
    version = _train(first)

    for change in (
        lambda: _train(second, version),
        lambda: second.save(version),
        lambda: second.load('initial'),
    ):
      with self.assertRaisesRegex(
          client_lib.RefusedError,
          'is trained by run A, which is still connected',
      ):
        change()
    self.assertEqual(first.status()['version'], version)

  def test_a_client_without_a_name_is_its_connection(self):
    first, second = self._connect(None), self._connect(None)
    version = _train(first)

    with self.assertRaisesRegex(
        client_lib.RefusedError, 'is trained by another client'
    ):
      _train(second, version)
    _train(first, version)

  def test_others_may_sample_and_load_the_present_version(self):
    first, second = self._connect('run A'), self._connect('run B')
    first.save('initial')

    second.load('initial')
    second.sample(toy_policy.observation(2), 1, 0, 'initial')

  def test_the_next_client_may_train_once_the_connection_is_closed(self):
    first, second = self._connect('run A'), self._connect('run B')
    version = _train(first)
    first.close()

    _train(second, version)

  def test_a_refused_training_does_not_take_the_policy(self):
    first, second = self._connect('run A'), self._connect('run B')
    with self.assertRaisesRegex(ValueError, "'other' was expected"):
      _train(first, 'other')

    _train(second)

  def test_a_client_that_reconnects_keeps_the_policy(self):
    first, second = self._connect('run A'), self._connect('run B')
    version = _train(first)
    first.close()
    first.sample(toy_policy.observation(2), 1, 0, version)

    with self.assertRaisesRegex(client_lib.RefusedError, 'by run A'):
      _train(second, version)

  def test_a_client_of_the_same_name_is_the_same(self):
    first, second = self._connect('run A'), self._connect('run A')
    _train(second, _train(first))


if __name__ == '__main__':
  absltest.main()
