"""Tests of the names of a SavedModel's inputs."""

from absl.testing import absltest

from parl_tf import input_names


class InputNamesTest(absltest.TestCase):

  def test_identifiers_are_kept(self):
    self.assertEqual(
        input_names.of(['state', 'image_2']),
        {'state': 'state', 'image_2': 'image_2'},
    )

  def test_other_keys_become_identifiers(self):
    self.assertEqual(
        input_names.of(
            ['observation.state', 'pixels/top', 'my-key', '1st', '_x', 'seed']
        ),
        {
            'observation.state': 'observation_state',
            'pixels/top': 'pixels_top',
            'my-key': 'my_key',
            '1st': 'arg_1st',
            '_x': 'arg__x',
            'seed': 'observation_seed',
        },
    )

  def test_keys_with_the_same_name_are_refused(self):
    with self.assertRaisesRegex(ValueError, "'a.b' and 'a/b'.*'a_b'"):
      input_names.of(['a/b', 'a.b'])

  def test_a_key_that_tensorflow_does_not_allow_is_refused(self):
    with self.assertRaisesRegex(ValueError, "letters.*got 'my key'"):
      input_names.of(['my key'])


if __name__ == '__main__':
  absltest.main()
