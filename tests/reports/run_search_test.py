import os

from absl.testing import absltest

from parl_tf.reports import run_search
from tests.reports import run_folder_case


class FindRunsTest(run_folder_case.RunFolderCase):

  def test_linked_runs_are_found_once(self):
    self._write('elsewhere/run')
    os.makedirs(self._path('runs'))
    for name in ('linked', 'again'):
      os.symlink(self._path('elsewhere/run'), self._path(f'runs/{name}'))
    os.symlink(self._path('runs'), self._path('runs/itself'))
    found, notes = run_search.find_runs([self._path('runs')])
    self.assertLen(found, 1)
    self.assertEmpty(notes)

    self._write('runs/seed_3')
    os.symlink(self._path('runs/seed_3'), self._path('runs/latest'))
    found, _ = run_search.find_runs([self._path('runs')])
    self.assertIn(self._path('runs/seed_3'), found)
    self.assertLen(found, 2)


if __name__ == '__main__':
  absltest.main()
