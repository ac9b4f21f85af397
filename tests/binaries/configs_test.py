"""Tests of finding and reading gin files."""

import logging
import os
from typing import Callable, Optional, Sequence, Tuple, Union
from unittest import mock

from absl.testing import absltest
import gin

from parl_tf.binaries import configs
from parl_tf.binaries import gin_names
from parl_tf.domains import domain as domain_lib


@gin.configurable(module='configs_test')
def make_number(value=0):
  return value


@gin.configurable(module='configs_test')
def make_sized(
    size: int = 1, share: Optional[float] = None, name: str = '', any=None,
    widths: Sequence[int] = (), bounds: Optional[Tuple[float, float]] = None,
    level: Union[float, Sequence[float]] = 0.0,
    ctor: Optional[Callable] = None, domain: Optional[domain_lib.Domain] = None,
):
  return size, share, name, any, widths, bounds, level, ctor, domain


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

  def test_gin_logs_nothing_about_directories_without_an_included_file(self):
    with self.assertNoLogs():
      configs.parse(['sizes/small.gin'], skip_unknown=True)
      configs.parse(['methods/parl_iql.gin'], skip_unknown=True)
    with self.assertLogs() as logs:
      logging.error('Shown again.')
    self.assertLen(logs.output, 1)

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

  def test_a_name_that_is_not_imported_gets_its_import_suggested(self):
    with self.assertRaisesRegex(ValueError, 'needs `import parl_tf.x.y` in'):
      with mock.patch.object(
          gin_names, 'modules', return_value={'make_shape': 'parl_tf.x.y'}
      ):
        configs.parse([], ['make_shape.size = 1'])

  def test_misspelled_names_are_found_before_imports(self):
    path = self._file('b.gin', "import no_such_module\n\nA.b = 3\n")
    configs.check([path], ['PointMase.size = 1'])  # Perhaps of that module.
    with self.assertRaisesRegex(
        ValueError, "--gin_bindings .*'PointMase' to .*mean 'PointMaze'"
    ):
      configs.check(['quickstart.gin'], ['PointMase.size = 1'])

  def test_errors_of_syntax_name_place_and_mend_without_imports(self):
    path = self._file('b.gin', "import no_such_module\n\nA.b = data/x.hdf5\n")
    for files, bindings, message in (
        ([path], [], r'b.gin, line 3: text needs quotes: A.b = "data/x.hdf5"'),
        ([], ['A.b = ../x y'], r'--gin_bindings .*quotes: A.b = "../x y"'),
        ([], ['A.b'], "must be `name.parameter = value`, got 'A.b'"),
        ([], ['A.b = (1'], "--gin_bindings 'A.b = .1': must be gin"),
        ([], ['A.b = 1 2'], "[Ee]xpected newline.*'A.b = 1 2'"),
    ):
      with self.subTest(message), self.assertRaisesRegex(ValueError, message):
        configs.check(files, bindings)
    configs.check([], ['A.b = @C', 'a/A.b = %c', "A.b = {'c': None}"])

  def test_digest_follows_included_files(self):
    inner = self._file('inner.gin', 'a.b = 1')
    outer = self._file('outer.gin', f"include '{inner}'")
    before = configs.digest([outer], ['c.d = 1'])
    self.assertEqual(configs.digest([outer], ['c.d = 1']), before)
    self.assertNotEqual(configs.digest([outer], ['c.d = 2']), before)
    self._file('inner.gin', 'a.b = 2')
    self.assertNotEqual(configs.digest([outer], ['c.d = 1']), before)

  def test_a_file_that_includes_itself_is_named(self):
    outer = self._file('outer.gin', '')
    inner = self._file('inner.gin', f"include '{outer}'")
    self._file('outer.gin', f"include '{inner}'")
    for function in (
        lambda: configs.check([outer], []), lambda: configs.digest([outer], [])
    ):
      with self.assertRaisesRegex(ValueError, 'outer.gin: includes itself|inn'):
        function()

  def test_text_for_a_number_is_an_error(self):
    for binding, message in (
        ("make_sized.size = 'few'", "size` must be of type int, got 'few'"),
        ('make_sized.size = None', 'size` must be of type int, got None'),
        ("make_sized.share = 'few'", 'share` must be of type float or None'),
        ('make_sized.name = 3', 'name` must be of type str, got 3'),
        ('make_sized.size = 1e3', 'size` must be of type int, got 1000.0'),
        ('make_sized.widths = 8', r'widths` must be .* Sequence.int., got 8'),
        ("make_sized.widths = 'a'", "widths` must be of type Sequence.*'a'"),
        ('make_sized.bounds = 1.0', 'bounds` must be of type Tuple.* or None'),
        ("make_sized.ctor = 'IQLCritic'", "ctor` must be a ref.*`@Name.*'IQL"),
        ('make_sized.ctor = 3', 'ctor` must be of type Callable or None, got'),
        ("make_sized.domain = 'PointMaze'", "domain` must be a ref.*'PointM"),
        ("make_sized.name = ['a']", r"name` must be of type str, got .'a'..$"),
        ('make_sized.share = (1, 2)', r'share` must be .*, got \(1, 2\)'),
    ):
      gin.clear_config()
      with self.subTest(message), self.assertRaisesRegex(ValueError, message):
        configs.parse([], [binding])
    gin.clear_config()
    configs.parse([], [
        'make_sized.share = 1', 'make_sized.any = "a"',
        'make_sized.level = 1.0', 'make_sized.widths = [1]',
        'make_sized.bounds = (0, 1)', 'make_sized.ctor = @make_sized',
        'make_sized.domain = None',
    ])

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
