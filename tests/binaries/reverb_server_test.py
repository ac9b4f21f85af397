"""Tests of `parl-reverb-server`."""

from absl.testing import absltest

from parl_tf.distributed import launcher
from parl_tf.training import run_directory
from reverb_server import server
from tests.binaries import tiny


class ServerTest(absltest.TestCase):

  def test_log_of_another_service_is_an_error(self):
    root_dir = self.create_tempdir().full_path
    with run_directory.hold(root_dir, 'service.lock'):
      with self.assertRaisesRegex(ValueError, 'is in use by process'):
        server.serve(root_dir, [tiny.GIN_FILE], port=launcher.free_port())


if __name__ == '__main__':
  absltest.main()
