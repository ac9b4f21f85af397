"""Tests that studies use existing gin files and parameters."""

import collections

from absl.testing import absltest
from absl.testing import parameterized
import gin

from benchmarks import served_tasks
from benchmarks import study_entries
from parl_tf.binaries import configs
from tests.binaries import tiny

_FOLDER = tiny.ROOT / 'benchmarks'
_STUDIES = sorted(path.name for path in _FOLDER.glob('*_study.gin'))


class StudyFilesTest(parameterized.TestCase):

  @parameterized.parameters(*_STUDIES)
  def test_every_entry_parses(self, name):
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    configs.parse([str(_FOLDER / name)])
    entries = collections.defaultdict(list)
    for entry in study_entries.study():
      entries[tuple(entry.gin_files)].append(entry)
    for gin_files, group in entries.items():
      gin.clear_config()
      # The files of many entries are the same.
      configs.parse(gin_files)
      for entry in group:
        with self.subTest(entry.name), gin.unlock_config():
          configs.parse([], entry.bindings)

  @parameterized.parameters(*served_tasks.TASKS)
  def test_the_files_of_served_tasks_parse(self, name):
    self.addCleanup(gin.clear_config)
    task = served_tasks.TASKS[name]
    for files, bindings in (
        ((*task.gin_files, 'policies/served.gin', 'variants/served_online.gin'),
         task.bindings),
        (task.evaluation_files, task.domain_bindings),
    ):
      gin.clear_config()
      configs.parse(files, bindings)


if __name__ == '__main__':
  absltest.main()
