"""Tests of the checks of outputs."""

import os

from absl.testing import absltest

from parl_tf.binaries import outputs


class OutputsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.create_tempdir()
    self._folder = folder.full_path
    self._file = folder.create_file('a.hdf5', content='a').full_path
    folder.create_file('model/saved_model.pb', content='a')
    folder.create_file('notes/a.txt', content='a')

  def _path(self, name):
    return os.path.join(self._folder, name)

  def test_files_that_may_be_written(self):
    outputs.check_file(self._path('new.hdf5'), overwrite=False)
    outputs.check_file(self._file, overwrite=True, inputs=['no_such_file'])

  def test_files_that_are_refused(self):
    for name, options, message in (
        ('no/a.hdf5', {}, 'no directory .*/no'),
        ('notes', {}, 'notes is a directory'),
        ('a.hdf5', {}, 'a.hdf5 exists: give --overwrite'),
        ('a.hdf5', dict(overwrite=True, inputs=[self._file]), 'the inputs'),
    ):
      with self.subTest(message), self.assertRaisesRegex(ValueError, message):
        outputs.check_file(self._path(name), **{'overwrite': False, **options})

  def test_directories(self):
    outputs.check_directory(self._path('new/report'))
    outputs.check_directory(self._path('notes'))
    for name in ('a.hdf5', 'a.hdf5/report'):
      with self.assertRaisesRegex(ValueError, '`output` .*a.hdf5 is a file'):
        outputs.check_directory(self._path(name))
    with self.assertRaisesRegex(ValueError, 'got an empty path'):
      outputs.check_directory('')

  def test_models_that_may_be_written(self):
    outputs.check_saved_model(self._path('new/model'), overwrite=False)
    outputs.check_saved_model(self._path('model'), overwrite=True)
    os.makedirs(self._path('empty'))
    outputs.check_saved_model(self._path('empty'), overwrite=False)

  def test_models_that_are_refused(self):
    for name, overwrite, message in (
        ('model', False, 'give --overwrite'),
        ('notes', True, r"notes holds \['a.txt'\]"),
        ('a.hdf5', True, 'a.hdf5 is a file'),
        ('a.hdf5/model', True, 'a.hdf5 is a file'),
    ):
      with self.subTest(name), self.assertRaisesRegex(ValueError, message):
        outputs.check_saved_model(self._path(name), overwrite=overwrite)


if __name__ == '__main__':
  absltest.main()
