"""Tests `parl-serve`."""

import os

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.binaries import served_policy
from tests.serving import toy_policy


def _save(path, has_chunks):
  def act(place, seed):
    noise = tf.random.stateless_normal([tf.shape(place)[0], 3, 2], seed)
    chunk = 10.0 * place[:, tf.newaxis] + noise
    return {'action': chunk[:, 0], 'chunk': chunk} if has_chunks else {
        'action': chunk[:, 0]
    }

  module = tf.Module()
  signature = tf.function(act).get_concrete_function(
      place=tf.TensorSpec([None, 2], tf.float32),
      seed=tf.TensorSpec([2], tf.int32),
  )
  tf.saved_model.save(module, path, signatures={'serving_default': signature})


class ServeTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._path = os.path.join(self.create_tempdir().full_path, 'model')

  def _client(self):
    act, spec, _ = served_policy.exported_policy(self._path)
    server = self.enter_context(
        toy_policy.serving(served_policy.make_policy(act), spec)
    )
    return self.enter_context(toy_policy.connect(server)), act

  def test_a_saved_model_is_served_in_chunks(self):
    _save(self._path, has_chunks=True)
    client, act = self._client()
    place = np.arange(8, dtype=np.float32).reshape(4, 2)

    samples = client.sample({'place': place}, 5, seed=2**33 + 7)

    self.assertEqual(samples.actions.shape, (4, 5, 3, 2))
    wanted = act(
        {'place': np.repeat(place, 5, axis=0)}, np.array([2, 7], np.int32)
    )
    np.testing.assert_allclose(
        samples.actions, wanted.reshape(4, 5, 3, 2), rtol=1e-6
    )
    # Samples of a state differ.
    self.assertLen(np.unique(samples.actions[0, :, 0, 0]), 5)
    self.assertFalse(client.can_train)

  def test_a_plain_observation_gets_a_chunk_of_one(self):
    _save(self._path, has_chunks=False)
    client, _ = self._client()

    answer = client.infer({'place': np.array([1.0, 2.0])})

    self.assertEqual(answer['actions'].shape, (1, 2))
    np.testing.assert_allclose(answer['actions'], [[10.0, 20.0]], atol=6.0)

  def test_the_version_names_the_weights(self):
    _save(self._path, has_chunks=True)
    first = served_policy.exported_policy(self._path).version
    self.assertEqual(served_policy.exported_policy(self._path).version, first)
    _save(self._path, has_chunks=False)
    self.assertNotEqual(
        served_policy.exported_policy(self._path).version, first
    )

  def test_a_signature_of_other_names_is_refused(self):
    module = tf.Module()
    act = tf.function(lambda place: {'actions': place})
    signature = act.get_concrete_function(
        place=tf.TensorSpec([None, 2], tf.float32)
    )
    tf.saved_model.save(
        module, self._path, signatures={'serving_default': signature}
    )
    with self.assertRaisesRegex(
        ValueError, f"{self._path}.*the input 'seed', got .'place'"
    ):
      served_policy.exported_policy(self._path)

  def test_other_models_are_refused(self):
    tf.saved_model.save(tf.Module(), self._path)

    with self.assertRaisesRegex(ValueError, "signature 'serving_default'"):
      served_policy.exported_policy(self._path)


if __name__ == '__main__':
  absltest.main()
