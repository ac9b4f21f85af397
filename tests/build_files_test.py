"""Tests that the BUILD files match the tree."""

import pathlib

from absl.testing import absltest

from tests import build_files


class BuildFilesTest(absltest.TestCase):

  def test_every_module_and_import_is_listed(self):
    faults = list(build_files.differences())

    self.assertEmpty(
        faults, '\n'.join(['Run `make build-files`:', *map(str, faults)])
    )


class DerivationTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root = pathlib.Path(self.create_tempdir().full_path)
    self._add('parl_tf/__init__.py', '')
    self._add('parl_tf/types.py', 'import numpy\n')
    self._add('parl_tf/parts/__init__.py', '')
    self._add('parl_tf/parts/wheel.py', 'from parl_tf import types\n')
    (self._root / 'gin').mkdir()
    build_files.write(self._root)

  def test_written_files_match_the_tree(self):
    self.assertEmpty(list(build_files.differences(self._root)))

  def test_a_library_depends_on_what_it_imports(self):
    text = (self._root / 'parl_tf' / 'parts' / 'BUILD').read_text()

    self.assertIn(
        'py_library(\n'
        '    name = "wheel",\n'
        '    srcs = ["wheel.py"],\n'
        '    deps = [\n'
        '        "//parl_tf:types",\n'
        '    ],\n'
        ')\n',
        text,
    )

  def test_an_added_module_is_reported(self):
    self._add('parl_tf/parts/axle.py', '')

    self.assertEqual(
        list(build_files.differences(self._root)),
        ['parl_tf/parts/BUILD lacks axle.'],
    )

  def test_a_removed_module_is_reported(self):
    (self._root / 'parl_tf' / 'types.py').unlink()
    self._add('parl_tf/parts/wheel.py', '')

    self.assertEqual(
        list(build_files.differences(self._root))[0],
        'parl_tf/BUILD lists types, which is not in the tree.',
    )

  def test_an_added_import_is_reported(self):
    self._add('parl_tf/parts/axle.py', '')
    build_files.write(self._root)
    self._add(
        'parl_tf/parts/wheel.py',
        'from parl_tf import types\n'
        'def turn():\n'
        '  from parl_tf.parts.axle import Axle\n',
    )

    self.assertEqual(
        list(build_files.differences(self._root)),
        ['parl_tf/parts/BUILD: wheel lacks "//parl_tf/parts:axle",'],
    )

  def test_a_folder_without_modules_loses_its_build_file(self):
    for path in (self._root / 'parl_tf' / 'parts').glob('*.py'):
      path.unlink()

    self.assertEqual(
        list(build_files.differences(self._root)),
        ['parl_tf/parts/BUILD is in a folder without modules.'],
    )
    build_files.write(self._root)
    self.assertEmpty(list(build_files.differences(self._root)))

  def test_a_file_that_ends_in_test_becomes_a_test(self):
    self._add('tests/parts/wheel_test.py', 'import parl_tf.parts.wheel\n')
    build_files.write(self._root)

    self.assertIn(
        'py_test(\n'
        '    name = "wheel_test",\n'
        '    srcs = ["wheel_test.py"],\n'
        '    deps = [\n'
        '        "//parl_tf/parts:wheel",\n',
        (self._root / 'tests' / 'parts' / 'BUILD').read_text(),
    )

  def _add(self, path: str, text: str) -> None:
    file = self._root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


if __name__ == '__main__':
  absltest.main()
