"""Tests that a user learns of bindings that change nothing of the agent."""

from absl.testing import absltest
from absl.testing import parameterized
import gin
import tensorflow as tf

from parl_tf.binaries import configs
from parl_tf.domains import domain as domain_lib
from parl_tf.training import builder
from tests import gin_files_test

_FILES = ['quickstart.gin']


class UnusedBindingsTest(parameterized.TestCase):

  def tearDown(self):
    gin.clear_config()
    super().tearDown()

  def _warn(self, files=(), bindings=()):
    files = [*_FILES, *files]
    bindings = [*gin_files_test._SMALL, *bindings]
    configs.parse(files, bindings)
    builder.build_agent(
        domain_lib.select_domain(), None, 0, tf.Variable(0, dtype=tf.int64)
    )
    configs.warn_of_unused(files, bindings)

  def test_a_class_that_the_agent_lacks_is_named(self):
    with self.assertLogs(level='WARNING') as logs:
      self._warn(bindings=['parl_tf.critics.iql.IQLCritic.expectile = 0.8'])
    messages = [x for x in logs.output if 'IQLCritic' in x]
    self.assertLen(messages, 1)
    self.assertIn(
        '--gin_bindings: IQLCritic.expectile has no effect, because the agent'
        ' has no IQLCritic.',
        messages[0],
    )

  def test_a_value_that_a_subclass_replaces_is_named(self):
    with self.assertLogs(level='WARNING') as logs:
      self._warn(
          ['methods/parl_iql.gin'],
          ['Critic.tau = 0.5', 'IQLCritic.expectile = 0.8'],
      )
    messages = [x for x in logs.output if 'no part' in x]
    self.assertLen(messages, 1)
    self.assertIn(
        '--gin_bindings: Critic.tau has no effect: no part of the agent reads',
        messages[0],
    )

  def test_all_parameters_of_a_class_are_named(self):
    with self.assertLogs(level='WARNING') as logs:
      self._warn(bindings=['IQLCritic.expectile = 0.8', 'IQLCritic.tau = 0.1'])
    self.assertIn(
        'IQLCritic.expectile, IQLCritic.tau have no effect',
        ' '.join(logs.output),
    )

  def test_the_configuration_of_another_run_is_skipped(self):
    run = self.create_tempfile(
        'config.gin', 'import parl_tf.critics.iql\nIQLCritic.expectile = 0.8'
    ).full_path
    with self.assertLogs(level='WARNING') as logs:
      self._warn([run])
      configs.logging.warning('The last one.')
    self.assertNotIn('IQLCritic', ' '.join(logs.output))

  def test_the_users_own_file_is_named(self):
    own = self.create_tempfile(
        'own.gin', 'import parl_tf.critics.iql\nIQLCritic.expectile = 0.8'
    ).full_path
    with self.assertLogs(level='WARNING') as logs:
      self._warn([own])
    self.assertIn(f'{own}: IQLCritic.expectile', ' '.join(logs.output))

  def test_a_binding_that_those_of_narrower_scopes_override_is_named(self):
    with self.assertLogs(level='WARNING') as logs:
      self._warn(bindings=[
          'Adam.learning_rate = 3e-4', 'critic/Adam.learning_rate = 1e-3'
      ])
    messages = [x for x in logs.output if 'Adam' in x]
    self.assertLen(messages, 1)
    self.assertIn(
        '--gin_bindings: Adam.learning_rate has no effect, because'
        ' critic/Adam.learning_rate and policy/Adam.learning_rate and'
        ' pretrain/Adam.learning_rate override it. Set these instead.',
        messages[0],
    )

  def test_what_the_agent_has_and_what_the_library_binds(self):
    with self.assertLogs(level='WARNING') as logs:
      self._warn(bindings=[
          'acting/Search.temperature = 0.5', 'target_noise = 0.1',
          'Online.num_episodes = 3', 'CalQLCritic.conservative_weight = 0.1',
      ])
      configs.logging.warning('The last one.')
    for name in ('Search', 'Online', 'CalQL', 'target_noise', 'HLGauss'):
      self.assertNotIn(f'{name}.', ' '.join(logs.output))


if __name__ == '__main__':
  absltest.main()
