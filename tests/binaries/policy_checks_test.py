"""Tests of `parl-doctor --policy`."""

import dataclasses
import os

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np

from parl_tf.binaries import policy_checks
from parl_tf.serving import policy_spec
from tests.binaries import tiny
from tests.serving import toy_policy

_SPEC = dataclasses.replace(
    toy_policy.SPEC,
    observation={'observation': policy_spec.ArraySpec((4,))},
    action_low=None,
    action_high=None,
)


class Policy(toy_policy.ToyPolicy):
  """Reads its states under the name that the task has."""

  def sample(self, observation, num_samples, seed, temperature=1.0):
    state = {'state': 0.1 * observation['observation']}
    return super().sample(state, num_samples, seed, temperature)

  def train(self, observation, actions, mask, num_steps, seed):
    state = {'state': observation['observation']}
    return super().train(state, actions, mask, num_steps, seed)


class PolicyChecksTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)

  def _examine(self, spec=_SPEC, can_save=True, dataset=None, **changes):
    directory = os.path.join(self.create_tempdir().full_path, 'saved')
    self.policy = Policy()
    functions = self.policy.functions()
    changes = {name: make(self.policy) for name, make in changes.items()}
    self.server = self.enter_context(
        toy_policy.serving(
            functions._replace(**changes),
            spec,
            directory=directory if can_save else None,
        )
    )
    found = policy_checks.examine(
        f'ws://{self.server.address}',
        [tiny.GIN_FILE],
        ('build_agent.chunk_length = 2',),
        dataset,
    )
    return {x.name: x for x in found}

  def test_a_sound_server_keeps_its_weights(self):
    found = self._examine()
    self.assertEqual(
        {name: x.status for name, x in found.items()},
        {'policy': 'NOTE', 'samples': 'OK', 'seeds': 'OK', 'training': 'OK'},
    )
    self.assertIn('trains the first 2', found['policy'].found)
    self.assertIn('8 at one state in ', found['samples'].found)
    self.assertEqual(self.policy.num_trainings, 1)
    np.testing.assert_array_equal(self.policy.offset, 0.0)
    self.assertEqual(self.server.weights.version, 'initial')
    self.assertEqual(self.server.weights.saved(), ['initial'])

  def test_samples_are_compared_with_recorded_actions(self):
    # The toy's actions are positions, those of the data lead elsewhere.
    dataset = os.path.join(tiny.finished_run(), 'data.hdf5')
    found = self._examine(dataset=dataset)
    self.assertEqual([*found][1:3], ['samples', 'data'])
    self.assertRegex(found['data'].found, r'at \d+ recorded states')
    gin.clear_config()
    with self.assertRaisesRegex(ValueError, 'no/such.hdf5: there is no such'):
      self._examine(dataset='no/such.hdf5')

  def test_a_load_that_restores_nothing_is_a_problem(self):
    found = self._examine(load=lambda policy: lambda path: None)
    self.assertEqual(found['training'].status, 'PROBLEM')
    self.assertIn('its samples differ by up to', found['training'].found)

  def test_an_error_of_training_is_a_problem(self):
    def make_train(policy):
      def train(*arguments):
        policy.train(*arguments)  # Returns no losses.

      return train

    found = self._examine(train=make_train)
    self.assertEqual(found['training'].status, 'PROBLEM')
    self.assertIn('must return its losses', found['training'].found)
    self.assertEqual(self.policy.num_trainings, 1)
    np.testing.assert_array_equal(self.policy.offset, 0.0)
    self.assertEqual(self.server.weights.version, 'initial')

  @parameterized.parameters(
      (dict(can_save=False), 'training', 'NOTE', 'was not tried'),
      (dict(train=lambda policy: None), 'training', 'NOTE', 'no `train`'),
      (dict(spec=dataclasses.replace(_SPEC, seedable=False)), 'seeds', 'NOTE',
       'cannot be repeated'),
      (dict(spec=dataclasses.replace(_SPEC, chunk_length=1)), 'policy',
       'PROBLEM', 'at least 2 actions'),
      (dict(sample=lambda policy: lambda states, number, seed: np.zeros(
          (len(states['observation']), number, 4, 2))), 'samples', 'NOTE',
       'nothing to rank'),
      (dict(sample=lambda policy: lambda states, number, seed: 1e3 *
            policy.sample(states, number, seed)), 'samples', 'NOTE',
       'the unit of the actions'),
  )
  def test_faults_are_found(self, settings, name, status, text):
    found = self._examine(**settings)
    self.assertEqual(found[name].status, status, found)
    self.assertIn(text, f'{found[name].found} {found[name].fix}')


if __name__ == '__main__':
  absltest.main()
