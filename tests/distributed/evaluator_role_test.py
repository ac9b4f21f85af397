"""Tests of the evaluator role."""

from unittest import mock

from absl.testing import absltest
import gin
import reverb

from parl_tf.distributed import directory_id
from parl_tf.distributed import evaluator_role
from parl_tf.distributed import journal


class EvaluatorRoleTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    server = reverb.Server([journal.make_table()])
    self.addCleanup(server.stop)
    self._address = f'localhost:{server.port}'
    self._root_dir = self.create_tempdir().full_path
    self.addCleanup(gin.clear_config)

  def _follow(self, run_id):
    journal.publish(reverb.Client(self._address), journal.make(run_id=run_id))
    evaluator_role.follow(self._root_dir, 0, self._address, num_episodes=1)

  def test_its_directory_belongs_to_one_run(self):
    with self.assertRaisesRegex(RuntimeError, 'domain'):  # None is bound.
      self._follow(run_id=1)
    directory_id.check_run(self._root_dir, 1)
    with self.assertRaisesRegex(ValueError, r'service \(2\), but.*\(1\)'):
      self._follow(run_id=2)

  def test_another_run_may_take_the_port_while_it_waits(self):
    weights = mock.Mock(is_over=False)

    def receive():
      journal.publish(
          reverb.Client(self._address), journal.make(run_id=2)
      )
      return {}

    weights.receive.side_effect = receive
    agent = mock.Mock(train_step_counter=1)
    for module, name, value in (
        (evaluator_role.weights_lib, 'Weights', weights),
        (evaluator_role.domain_lib, 'select_domain', None),
        (evaluator_role.experiment, 'make_agent', agent),
        (evaluator_role.evaluation, 'Evaluator', None),
    ):
      self.enter_context(
          mock.patch.object(module, name, return_value=value)
      )
    with self.assertRaisesRegex(ValueError, r'service \(2\), but.*\(1\)'):
      self._follow(run_id=1)


if __name__ == '__main__':
  absltest.main()
