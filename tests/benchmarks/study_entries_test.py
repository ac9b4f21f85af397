"""Tests of reading study files."""

import os

from absl.testing import absltest
from absl.testing import parameterized
import gin

from benchmarks import study_entries
from parl_tf.binaries import configs
from tests.reports import run_folders


class StudyFileTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    gin.clear_config()
    self.addCleanup(gin.clear_config)
    self._dir = self.create_tempdir().full_path

  def _read(self, text):
    path = os.path.join(self._dir, 'study.gin')
    run_folders.write_text(path, text)
    configs.parse([path])
    return study_entries.study()

  def test_common_files_and_bindings_come_before_those_of_entries(self):
    entries = self._read("""
        study.entries = [
            {'name': 'maze/a', 'gin_files': ['a.gin'], 'budget': 2.5,
             'controls': True},
            {'name': 'maze/b', 'bindings': ['B.x = @C'], 'seeds': [7]},
        ]
        study.seeds = [0, 1]
        study.common_gin_files = ['maze.gin']
        study.common_bindings = ['A.y = 1']
    """)

    self.assertEqual(
        entries,
        [
            study_entries.Entry(
                'maze/a',
                ('maze.gin', 'a.gin'),
                ('A.y = 1',),
                (0, 1),
                2.5,
                controls=True,
            ),
            study_entries.Entry(
                'maze/b', ('maze.gin',), ('A.y = 1', 'B.x = @C'), (7,), None
            ),
        ],
    )

  @parameterized.named_parameters(
      ('name', {'name': '../a'}, r'`entries\[0\]`: `name`.*\.\./a'),
      ('no_name', {'name': None}, '`name`.*None'),
      ('field', {'seed': 3}, r'only have fields .*\[.seed.\]'),
      ('seeds', {'seeds': [1, 1]}, r'`seeds`.*\[1, 1\]'),
      ('seed', {'seeds': [-1]}, r'`seeds`.*\[-1\]'),
      ('list', {'bindings': 'A.x = 1'}, "`bindings` must be a list"),
      ('budget', {'budget': 0}, '`budget` must be positive, got 0'),
      ('gin_files', {'gin_files': []}, '`gin_files` must name a file'),
  )
  def test_an_invalid_entry_is_named(self, changes, message):
    entry = {'name': 'a', 'gin_files': ['a.gin'], **changes}

    with self.assertRaisesRegex(ValueError, message):
      study_entries.study([entry])

  def test_two_entries_with_one_name_are_an_error(self):
    entry = {'name': 'a', 'gin_files': ['a.gin']}

    with self.assertRaisesRegex(ValueError, "an earlier entry is named 'a'"):
      study_entries.study([entry, entry])

  def test_an_initial_entry_must_come_before_with_the_same_seeds(self):
    first = {'name': 'a', 'gin_files': ['a.gin'], 'seeds': [0]}
    first['controls'] = True
    second = {**first, 'name': 'b', 'initial_entry': 'a'}

    self.assertEqual(
        study_entries.study([first, second])[1].initial_entry, 'a'
    )
    with self.assertRaisesRegex(ValueError, "before it, .*, got 'a'"):
      study_entries.study([second, first])
    with self.assertRaisesRegex(ValueError, r"those of 'a', \[0\], .*\[1\]"):
      study_entries.study([first, {**second, 'seeds': [0, 1]}])

  def test_a_variant_begins_with_the_settings_of_another_entry(self):
    first = {'name': 'a', 'gin_files': ['a.gin']}
    second = {
        'name': 'b',
        'initial_entry': 'a',
        'bindings': ['B.x = 1'],
        'controls': True,
    }
    variant = {'name': 'tuning/b_2', 'like': 'b', 'bindings': ['B.x = 2']}

    entry = study_entries.study(
        [first, second],
        variants=[variant],
        common_gin_files=['c.gin'],
        common_bindings=['C.y = 0'],
    )[2]

    self.assertEqual(entry.gin_files, ('c.gin',))
    self.assertEqual(entry.bindings, ('C.y = 0', 'B.x = 1', 'B.x = 2'))
    self.assertEqual(entry.initial_entry, 'a')
    self.assertFalse(entry.controls)
    with self.assertRaisesRegex(
        ValueError, r"`variants\[0\]`: `like` must be one of .*, got 'x'"
    ):
      study_entries.study(
          [first, second],
          common_gin_files=['c.gin'],
          variants=[{**variant, 'like': 'x'}],
      )
    with self.assertRaisesRegex(
        ValueError, "`initial_entry` must be that of 'b', 'a', got 'b'"
    ):
      study_entries.study(
          [first, second],
          common_gin_files=['c.gin'],
          variants=[{**variant, 'initial_entry': 'b'}],
      )

  def test_entries_are_chosen_by_name_or_folder(self):
    names = ('a', 'tuning/b', 'tuning/c', 'tuning_more')
    entries = study_entries.study(
        [{'name': name, 'gin_files': ['a.gin']} for name in names],
        needs_controls=False,
    )

    chosen = study_entries.choose(entries, ['tuning', 'a'])

    self.assertEqual([x.name for x in chosen], ['a', 'tuning/b', 'tuning/c'])
    with self.assertRaisesRegex(ValueError, "'tun' is none of .*'a'"):
      study_entries.choose(entries, ['a', 'tun'])

  def test_a_study_needs_controls(self):
    entry = {'name': 'a', 'gin_files': ['a.gin']}

    with self.assertRaisesRegex(ValueError, "must have `'controls': True`"):
      study_entries.study([entry])
    self.assertLen(study_entries.study([entry], needs_controls=False), 1)


if __name__ == '__main__':
  absltest.main()
