"""Tests of which policies a run exports, and when."""

import os
from unittest import mock

from absl.testing import absltest

from parl_tf.training import export
from parl_tf.training import run_policies
from tests import eager
from tests.training import small_run


class RunPoliciesTest(absltest.TestCase):

  def test_latency_is_measured_at_the_end_of_the_run(self):
    eager.run_eagerly(self)
    folder = self.create_tempdir().full_path
    episodes = small_run.make_episodes(os.path.join(folder, 'data.hdf5'))
    session = small_run.make_session(os.path.join(folder, 'run'))
    session.begin_phase('offline')
    with mock.patch.object(export, 'export_policies') as exporter:
      exporter.return_value = {}
      run_policies.export_run(session, episodes, ['base_policy'], 'offline')
      paths = run_policies.export_run(session, episodes, ['base_policy'])

    self.assertEqual(
        paths,
        {'base_policy': os.path.join(
            session.root_dir, 'policies', 'base_policy'
        )},
    )
    measured = [call.kwargs['measure_latency'] for call in exporter.mock_calls]
    self.assertEqual(measured, [False, True])


if __name__ == '__main__':
  absltest.main()
