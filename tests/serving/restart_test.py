"""Tests a server that starts in the directory of an earlier one."""

import os

from absl.testing import absltest

from tests.serving import toy_policy


class RestartTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.directory = self.create_tempdir().full_path
    self._restart()

  def _restart(self, offset=0.0, **options):
    """Starts a server, saves its version, and ends it."""
    policy = toy_policy.ToyPolicy()
    policy.offset += offset
    with toy_policy.serving(
        policy.functions(), directory=self.directory, **options
    ) as server:
      with toy_policy.connect(server) as client:
        client.save(server.weights.version)

  def test_the_same_weights_are_no_reason_for_a_warning(self):
    with self.assertNoLogs(level='WARNING'):
      self._restart()
    self.assertEqual(os.listdir(self.directory), ['initial'])

  def test_other_weights_of_a_saved_name_are_warned_of(self):
    with self.assertLogs(level='WARNING') as logs:
      self._restart(offset=1.0)
    self.assertRegex(logs.output[0], "has another version 'initial'")
    with self.assertNoLogs(level='WARNING'):
      self._restart(offset=1.0, version='other')

  def test_further_files_are_other_weights(self):
    with open(os.path.join(self.directory, 'initial', 'more'), 'w'):
      pass
    with self.assertLogs(level='WARNING'):
      self._restart()

  def test_a_name_of_the_author_is_trusted(self):
    self._restart(version='v1')
    with self.assertNoLogs(level='WARNING'):
      self._restart(version='v1')


if __name__ == '__main__':
  absltest.main()
