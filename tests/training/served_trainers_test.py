"""Tests two runs that would train the policy of one server."""

from unittest import mock

from absl.testing import absltest

from tests.training import served_run


class ServedTrainersTest(served_run.ServedRunTest):

  def test_the_second_run_ends_and_the_first_one_goes_on(self):
    toy, server = self.serve('both')
    first = self.make_session('first', server)
    second = self.make_session('second', server)
    write_row = first.write_row

    def write_row_beside(metrics):
      version = first.state.policy_versions[-1].replace('+', r'\+')
      with self.assertRaisesRegex(
          ValueError,
          rf"version '{version}', is trained by the run /.*/first on .*, which"
          ' is still connected',
      ):
        served_run.phase(1).run(second)
      self.assertEqual(second.state.episodes, 0)
      write_row(metrics)

    with mock.patch.object(first, 'write_row', write_row_beside):
      served_run.phase(1).run(first)

    self.assertEqual(toy.num_trainings, 1)
    # The first run has ended.
    second.agent.generative_policy.client.save(server.weights.version)


if __name__ == '__main__':
  absltest.main()
