"""Tests a training that is asked for again because its answer was lost."""

from unittest import mock

from absl.testing import absltest
import numpy as np

from parl_tf.serving import weights
from tests.serving import toy_policy


class RepeatedTrainingTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.policy = toy_policy.ToyPolicy()
    self.server = self.enter_context(
        toy_policy.serving(self.policy.functions())
    )
    self.client = self.enter_context(toy_policy.connect(self.server))

  def test_repeated_training_does_not_train_again(self):
    client = self.client
    arguments = dict(num_steps=2, seed=0, version='initial')
    observation = toy_policy.observation(9)
    actions = np.ones([9, 4, 2])
    first = client.train(observation, actions, **arguments)
    client.close()  # As if the answer had been lost.

    again = client.train(observation, actions, **arguments)

    self.assertEqual(again.version, first.version)
    np.testing.assert_array_equal(again.losses['loss'], first.losses['loss'])
    self.assertEqual(self.policy.num_trainings, 1)
    for others in (
        (2 * actions, {}), (actions, {'seed': 1}), (actions, {'num_steps': 3})
    ):
      with self.assertRaises(weights.StaleVersionError):
        client.train(observation, others[0], **arguments | others[1])
    # From other weights, it is another training.
    client.train(observation, actions, **arguments | {'version': first.version})
    self.assertEqual(self.policy.num_trainings, 2)

  def test_answers_name_the_version_of_their_own_training(self):
    call = self.server._model.call

    def call_before_another(*arguments):
      """Lets another call change the version before the answer is made."""
      answer = call(*arguments)
      self.server.weights.version = 'later'
      return answer

    rows = toy_policy.observation(9), np.ones([9, 4, 2])
    arguments = dict(num_steps=2, seed=0, version='initial')
    with mock.patch.object(self.server._model, 'call', call_before_another):
      first = self.client.train(*rows, **arguments)
      self.server.weights.version = first.version
      again = self.client.train(*rows, **arguments)

    self.assertStartsWith(first.version, 'initial+1-')
    self.assertEqual(again.version, first.version)
    self.assertEqual(self.policy.num_trainings, 1)


if __name__ == '__main__':
  absltest.main()
