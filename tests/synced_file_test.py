"""Tests of atomic file writes."""

import errno
import os
import shutil
from unittest import mock

from absl.testing import absltest

from parl_tf import synced_file


class ReplaceDirectoryTest(absltest.TestCase):

  def test_everything_is_synced_before_the_old_one_is_removed(self):
    root = self.create_tempdir().full_path
    partial = os.path.join(root, 'model.partial')
    directory = os.path.join(root, 'model')
    variables = os.path.join(partial, 'variables')
    os.makedirs(variables)
    os.makedirs(directory)
    with open(os.path.join(directory, 'old'), 'w') as file:
      file.write('old')
    with open(os.path.join(variables, 'data'), 'w') as file:
      file.write('new')
    synced = []

    def sync(descriptor):
      path = os.readlink(f'/proc/self/fd/{descriptor}')
      synced.append((path, os.path.exists(os.path.join(directory, 'old'))))

    with mock.patch.object(os, 'fsync', sync):
      synced_file.replace_directory(partial, directory)

    files = os.path.join(variables, 'data'), variables, partial
    self.assertCountEqual(
        synced, [*((path, True) for path in files), (root, False)]
    )
    self.assertEqual(os.listdir(directory), ['variables'])
    self.assertEqual(os.listdir(root), ['model'])

  def test_a_kill_leaves_the_old_or_the_new_directory(self):
    for num_done, wanted in ((0, 'old'), (1, 'old'), (2, 'new')):
      root = self.create_tempdir().full_path
      directory, partial = (os.path.join(root, x) for x in ('a', 'a.partial'))
      for folder, name in (directory, 'old'), (partial, 'new'):
        os.makedirs(os.path.join(folder, name))
      replace, calls = os.replace, []

      def kill(source, target):
        if len(calls) == num_done:  # noqa: B023
          raise KeyboardInterrupt
        calls.append(target)  # noqa: B023
        replace(source, target)  # noqa: B023

      with mock.patch.object(os, 'replace', kill):
        with mock.patch.object(shutil, 'rmtree', side_effect=KeyboardInterrupt):
          with self.assertRaises(KeyboardInterrupt):
            synced_file.replace_directory(partial, directory)
      synced_file.restore_directory(directory)
      self.assertEqual(os.listdir(directory), [wanted])

  def test_a_directory_of_the_users_beside_it_stays(self):
    root = self.create_tempdir().full_path
    for name in ('a', 'a.old', 'a.bak', 'a.partial'):
      os.makedirs(os.path.join(root, name))
    directory = os.path.join(root, 'a')
    # A shell completes a slash.
    synced_file.replace_directory(directory + '.partial', directory + '/')
    self.assertCountEqual(os.listdir(root), ['a', 'a.old', 'a.bak'])


  def test_a_link_to_a_directory_is_replaced_each_time(self):
    root = self.create_tempdir().full_path
    link, kept = os.path.join(root, 'current'), os.path.join(root, 'v1')
    os.makedirs(os.path.join(kept, 'first'))
    os.symlink(kept, link)
    for name in ('second', 'third'):
      os.makedirs(os.path.join(root, 'new', name))
      synced_file.replace_directory(os.path.join(root, 'new'), link)
      self.assertEqual(os.listdir(link), [name])
      self.assertCountEqual(os.listdir(root), ['current', 'v1'])
    self.assertEqual(os.listdir(kept), ['first'])


class MakeDirectoryTest(absltest.TestCase):

  def test_the_names_of_all_new_directories_are_synced(self):
    root = self.create_tempdir().full_path
    synced = []

    def sync(descriptor):
      synced.append(os.readlink(f'/proc/self/fd/{descriptor}'))

    with mock.patch.object(os, 'fsync', sync):
      for _ in range(2):
        synced_file.make_directory(os.path.join(root, 'run', 'spool', '0/'))
    self.assertTrue(os.path.isdir(os.path.join(root, 'run/spool/0')))
    parents = (root, os.path.join(root, 'run'), os.path.join(root, 'run/spool'))
    self.assertEqual(tuple(synced), parents)


class WriteTest(absltest.TestCase):

  def test_contents_are_synced_before_the_file_has_its_name(self):
    root = self.create_tempdir().full_path
    path = os.path.join(root, 'file')
    synced = []

    def sync(descriptor):
      name = os.readlink(f'/proc/self/fd/{descriptor}')
      is_whole = os.path.isdir(name) or os.path.getsize(name) == 3
      synced.append((name, is_whole, os.path.exists(path)))

    with mock.patch.object(os, 'fsync', sync):
      with synced_file.write(path) as file:
        file.write(b'new')

    self.assertEqual(
        synced, [(path + '.partial', True, False), (root, True, True)]
    )


  def test_an_error_without_a_path_gets_it(self):
    path = os.path.join(self.create_tempdir().full_path, 'a.npz')
    full = OSError(errno.ENOSPC, 'No space left on device')
    with mock.patch.object(os, 'fsync', side_effect=full):
      with self.assertRaisesRegex(OSError, f"No space left .*'{path}'"):
        with synced_file.write(path) as file:
          file.write(b'x')
    with self.assertRaisesRegex(ValueError, '^no file$'):
      with synced_file.write(path):
        raise ValueError('no file')


class WriteCsvTest(absltest.TestCase):

  def test_rows_replace_the_file_at_once(self):
    path = self.create_tempfile('rows.csv', 'old').full_path
    rows = iter([{'a': 1, 'c': 3}, {'b': '"x"'}])

    synced_file.write_csv(path, ['a', 'b'], rows)

    with open(path, encoding='utf-8') as file:
      self.assertEqual(file.read(), 'a,b\n1,\n,"""x"""\n')
    self.assertEqual(os.listdir(os.path.dirname(path)), ['rows.csv'])

  def test_an_error_leaves_the_old_file(self):
    path = self.create_tempfile('rows.csv', 'old').full_path

    def rows():
      yield {'a': 1}
      raise OSError('lost')

    with self.assertRaisesRegex(OSError, 'lost'):
      synced_file.write_csv(path, ['a'], rows())
    with open(path, encoding='utf-8') as file:
      self.assertEqual(file.read(), 'old')


if __name__ == '__main__':
  absltest.main()
