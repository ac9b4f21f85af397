"""Tests of reading JSON files that describe datasets."""

import os

from absl.testing import absltest
from absl.testing import parameterized

from parl_tf.datasets import json_file
from parl_tf.datasets import rows


class JsonFileTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._path = os.path.join(self.create_tempdir().full_path, 'info.json')

  def _write(self, text):
    with open(self._path, 'w', encoding='utf-8') as file:
      file.write(text)

  def test_object_is_read(self):
    self._write('{"fps": 10}')

    self.assertEqual(json_file.read(self._path), {'fps': 10})

  @parameterized.parameters(
      ('{"fps": 1', 'info.json: must be complete JSON'),
      ('[10]', 'info.json: must contain a JSON object, got list'),
  )
  def test_damage_names_the_file(self, text, message):
    self._write(text)

    with self.assertRaisesRegex(rows.DamagedFileError, message):
      json_file.read(self._path)

  def test_missing_file_counts_as_damage(self):
    with self.assertRaisesRegex(rows.DamagedFileError, 'is missing'):
      json_file.read(self._path)


if __name__ == '__main__':
  absltest.main()
