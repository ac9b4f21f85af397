"""Tests of atomic file writes."""

import os

from absl.testing import absltest

from parl_tf import synced_file


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
