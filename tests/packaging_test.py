"""Tests of the contents of the project's wheel."""

import configparser
import pathlib
import shutil
import subprocess
import sys
import zipfile

from absl.testing import absltest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_SOURCES = (
    'LICENSE', 'MANIFEST.in', 'README.md', 'constraints.txt', 'pyproject.toml',
    'setup.py',
)

_PACKAGES = ('parl_tf', 'reverb_server')

_BUILD = 'from setuptools import build_meta; build_meta.build_wheel("dist")'


class WheelTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # Build in a copy, because setuptools writes next to setup.py.
    folder = pathlib.Path(absltest.get_default_test_tmpdir()) / 'wheel'
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns('__pycache__')
    for name in ('gin', *_PACKAGES):
      shutil.copytree(_ROOT / name, folder / name, ignore=ignored)
    for name in _SOURCES:
      shutil.copy(_ROOT / name, folder / name)
    subprocess.run(
        [sys.executable, '-c', _BUILD],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    [wheel] = (folder / 'dist').glob('*.whl')
    cls._wheel = zipfile.ZipFile(wheel)
    cls._names = set(cls._wheel.namelist())

  def test_every_gin_file_is_package_data(self):
    files = (_ROOT / 'gin').rglob('*.gin')
    wanted = {
        f'parl_tf/configs/{path.relative_to(_ROOT / "gin").as_posix()}'
        for path in files
    }

    self.assertNotEmpty(wanted)
    self.assertEqual(
        {name for name in self._names if name.endswith('.gin')}, wanted
    )

  def test_types_and_constraints_are_package_data(self):
    self.assertContainsSubset(
        {'parl_tf/py.typed', 'parl_tf/configs/constraints.txt'}, self._names
    )

  def test_every_module_is_installed(self):
    wanted = {
        path.relative_to(_ROOT).as_posix()
        for package in _PACKAGES
        for path in (_ROOT / package).rglob('*.py')
    }

    self.assertEqual(
        {name for name in self._names if name.endswith('.py')}, wanted
    )

  def test_only_the_packages_are_installed(self):
    # A top-level `gin` would hide gin-config's package.
    folders = {name.partition('/')[0] for name in self._names}

    self.assertEqual(
        {x for x in folders if not x.endswith('.dist-info')}, set(_PACKAGES)
    )

  def test_every_console_script_names_a_function(self):
    [path] = (x for x in self._names if x.endswith('/entry_points.txt'))
    scripts = configparser.ConfigParser()
    scripts.read_string(self._wheel.read(path).decode())

    for script, target in scripts['console_scripts'].items():
      module, _, function = target.partition(':')
      file = _ROOT / f'{module.replace(".", "/")}.py'
      with self.subTest(script):
        self.assertTrue(file.exists(), file)
        self.assertIn(f'\ndef {function}(', file.read_text(encoding='utf-8'))


if __name__ == '__main__':
  absltest.main()
