"""Tests servers that start in the directory of earlier ones, and share it."""

from concurrent import futures
import os
import threading

from absl.testing import absltest

from parl_tf.serving import weights
from tests.serving import toy_policy


def _make_path(path):
  os.makedirs(path)
  return path


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

  def _call_at_once(self, name, directory):
    """Calls a method of two servers' weights, whose `save` meet."""
    meeting = threading.Barrier(2, timeout=10.0)

    def save(path):
      meeting.wait()
      toy_policy.ToyPolicy().save(path)
      meeting.wait()

    both = [
        weights.Weights(
            'initial', directory=directory, save=save, load=lambda path: None
        )
        for _ in range(2)
    ]
    with futures.ThreadPoolExecutor(2) as executor:
      calls = [executor.submit(getattr(x, name)) for x in both]
    return [call.result() for call in calls]

  def test_servers_compare_their_weights_at_once(self):
    self.assertEqual(
        self._call_at_once('differ_from_saved', self.directory), [False, False]
    )
    self.assertEqual(os.listdir(self.directory), ['initial'])

  def test_servers_save_a_version_at_once(self):
    directory = self.create_tempdir().full_path
    self._call_at_once('save', directory)
    self.assertEqual(os.listdir(directory), ['initial'])
    saved = os.path.join(directory, 'initial')
    self.assertEqual(os.listdir(saved), ['offset.npy'])

  def test_directories_of_killed_servers_are_removed(self):
    for name, seconds in (('old', 1.0), ('new', None)):
      path = os.path.join(self.directory, f'{name}-0123456789ab.partial')
      file = os.path.join(_make_path(path), 'torn')
      with open(file, 'w'):
        pass
      if seconds:
        for changed in (file, path):
          os.utime(changed, (seconds, seconds))
    _make_path(os.path.join(self.directory, 'download.partial'))  # A user's.

    self._restart(version='next')

    self.assertCountEqual(
        os.listdir(self.directory),
        ['initial', 'next', 'new-0123456789ab.partial', 'download.partial'],
    )


if __name__ == '__main__':
  absltest.main()
