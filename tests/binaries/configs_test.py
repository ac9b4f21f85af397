"""Tests of finding and reading gin files."""

import os

from absl.testing import absltest
import gin

from parl_tf.binaries import configs


@gin.configurable(module='configs_test')
def make_number(value=0):
  return value


class ConfigsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._folder = self.create_tempdir()

  def _file(self, name, content):
    return self._folder.create_file(name, content=content).full_path

  def test_later_files_and_bindings_override(self):
    first = self._file('a.gin', 'make_number.value = 1')
    second = self._file('b.gin', 'make_number.value = 2')
    configs.parse([first, second])
    self.assertEqual(make_number(), 2)
    gin.clear_config()
    configs.parse([second, first], ['make_number.value = 3'])
    self.assertEqual(make_number(), 3)

  def test_the_librarys_own_files_are_found_from_anywhere(self):
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(self._folder.full_path)
    configs.parse(['domains/pointmaze.gin'], skip_unknown=True)
    self.assertEqual(gin.query_parameter('PointMaze.size'), 'Large')

  def test_a_missing_file_error_lists_the_searched_paths(self):
    with self.assertRaisesRegex(
        FileNotFoundError, f"'no_such.gin'.*{os.getcwd()}.*(gin|configs)"
    ):
      configs.parse(['no_such.gin'])

  def test_an_unknown_name_is_an_error_unless_skipped(self):
    path = self._file('a.gin', 'no_such_thing.value = 1')
    with self.assertRaisesRegex(ValueError, 'no_such_thing'):
      configs.parse([path])
    configs.parse([path], skip_unknown=True)

  def test_an_unknown_parameter_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'no_such_parameter'):
      configs.parse([], ['make_number.no_such_parameter = 1'])

  def test_misspelled_names_get_the_closest_name_suggested(self):
    for files, bindings, closest in (
        (['quickstrat.gin'], [], 'quickstart.gin'),
        (['domains/pointmze.gin'], [], 'domains/pointmaze.gin'),
        ([], ['PointMase.size = 1'], 'PointMaze'),
        ([], ['make_number.value = @DifusionPolicy'], 'DiffusionPolicy'),
        ([], ['make_number.valu = 1'], 'value'),
    ):
      gin.clear_config()
      with self.assertRaisesRegex(
          (FileNotFoundError, ValueError), f"Did you mean '{closest}'"
      ):
        configs.parse(files, bindings)

  def test_invalid_gin_is_an_error_that_names_it(self):
    path = self._file('torn.gin', 'make_number.value = (1')
    # The tokenizer of Python 3.12 names the last line, older ones the next.
    with self.assertRaisesRegex(ValueError, 'torn.gin.*line [12]'):
      configs.parse([path])
    with open(path, 'wb') as file:
      file.write(b'\xff\xfe\x00')
    with self.assertRaisesRegex(ValueError, 'torn.gin.*decode'):
      configs.parse([path])

  def test_a_missing_module_is_an_error_that_names_it(self):
    path = self._file('a.gin', 'import no_such_module')
    with self.assertRaisesRegex(ImportError, "no_such_module'[^']*line 1"):
      configs.parse([path])


if __name__ == '__main__':
  absltest.main()
