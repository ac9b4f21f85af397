"""A base class of tests that read run directories."""

import os

from absl.testing import parameterized

from tests.reports import run_folders

ROWS = (
    run_folders.logged('offline', 10, values__mean=-2.0),
    run_folders.evaluated('offline', 20, 40.0),
    run_folders.evaluated('online', 40, 80.0, env_steps=15),
)


class RunFolderCase(parameterized.TestCase):
  """A test with run directories."""

  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path

  def _path(self, *parts):
    return os.path.join(self._root, *parts)

  def _write(self, name, rows=ROWS, **options):
    return run_folders.write(self._path(name), rows, **options)
