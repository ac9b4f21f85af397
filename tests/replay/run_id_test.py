"""Tests of the number that binds logs and spools to a run."""

import os

from absl.testing import absltest

from parl_tf.replay import run_id


class RunIdTest(absltest.TestCase):

  def test_a_log_keeps_its_number_and_another_has_another(self):
    first, second = (self.create_tempdir().full_path for _ in range(2))
    made = run_id.read_or_make(first)
    self.assertEqual(run_id.read_or_make(first), made)
    self.assertNotEqual(run_id.read_or_make(second), made)

  def test_a_spool_is_bound_once(self):
    directory = self.create_tempdir().full_path
    run_id.check(directory, 5)
    run_id.check(directory, 5)
    with self.assertRaisesRegex(ValueError, f'{directory}.*another'):
      run_id.check(directory, 6)

  def test_a_file_without_a_number_is_named(self):
    directory = self.create_tempdir().full_path
    path = os.path.join(directory, '.run_id')
    with open(path, 'w', encoding='ascii') as file:
      file.write('none')
    with self.assertRaisesRegex(ValueError, f"{path}: .*'none'"):
      run_id.read_or_make(directory)


if __name__ == '__main__':
  absltest.main()
