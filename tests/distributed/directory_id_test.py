"""Tests of the numbers of logs and spools."""

import os

from absl.testing import absltest

from parl_tf.distributed import directory_id


class DirectoryIdTest(absltest.TestCase):

  def test_each_log_keeps_its_own_number(self):
    first, second = (self.create_tempdir().full_path for _ in range(2))
    name = directory_id.RUN
    made = directory_id.read_or_make(first, name)
    self.assertEqual(directory_id.read_or_make(first, name), made)
    self.assertNotEqual(directory_id.read_or_make(second, name), made)

  def test_a_spool_is_bound_once(self):
    directory = self.create_tempdir().full_path
    directory_id.check_run(directory, 5)
    directory_id.check_run(directory, 5)
    with self.assertRaisesRegex(ValueError, f'{directory}.*another'):
      directory_id.check_run(directory, 6)

  def test_a_file_without_a_number_is_named(self):
    directory = self.create_tempdir().full_path
    path = os.path.join(directory, directory_id.RUN)
    with open(path, 'w', encoding='ascii') as file:
      file.write('none')
    with self.assertRaisesRegex(ValueError, f"{path}: .*'none'"):
      directory_id.read_or_make(directory, directory_id.RUN)


if __name__ == '__main__':
  absltest.main()
