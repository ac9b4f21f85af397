"""Tests of the evaluator role."""

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


if __name__ == '__main__':
  absltest.main()
