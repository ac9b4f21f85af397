"""Tests that the study files use existing gin parameters."""

from absl.testing import absltest
from absl.testing import parameterized
import gin

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
    for entry in study_entries.study():
      with self.subTest(entry.name):
        gin.clear_config()
        configs.parse(entry.gin_files, entry.bindings)


if __name__ == '__main__':
  absltest.main()
