"""Tests of the comparison of a run with its best control."""

import json
import os

from absl.testing import absltest

from parl_tf.reports import control_comparison
from parl_tf.reports import controls
from parl_tf.reports import run_files
from parl_tf.reports import runs as runs_lib
from tests.reports import run_folders


class ControlComparisonTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root = run_folders.write_study(
        self.create_tempdir().full_path, {'good': [80.0, 90.0]}
    )
    self._folder = os.path.join(self._root, 'good', 'seed_1')

  def _write(self, search, alone, **found):
    rows = [
        f'{row},online,{row},{row},{policy},{start},{success},,-1.0'
        for row in (0, 1)
        for policy, outcomes in (('alone', alone), ('search', search))
        # The first evaluation has the reverse, and does not count.
        for start, success in enumerate(
            outcomes if row else outcomes.translate({48: 49, 49: 48})
        )
    ]
    run_folders.write_text(
        os.path.join(self._folder, run_files.EVALUATIONS),
        '\n'.join([','.join(run_files.EVALUATION_COLUMNS), *rows, '']),
    )
    content = {'num_episodes': len(alone), **found}
    run_folders.write_text(
        os.path.join(self._folder, controls.FILE), json.dumps(content)
    )

  def _statements(self):
    return control_comparison.statements(runs_lib.read_runs([self._root]).runs)

  def test_starts_are_won_from_the_best_control_and_lost_to_it(self):
    self._write(
        search='1111111100',
        alone='1010000001',
        clone={
            '1': {'success_rate': 0.0, 'outcomes': '0000000000'},
            '0.5': None,
            '0': {'success_rate': 0.4},  # Of an earlier version.
        },
        self_distillation={'success_rate': 0.2, 'outcomes': '1000000010'},
    )
    self.assertEqual(
        self._statements(),
        [
            'LineWalk, good, seed 1: against self-distillation, with search'
            # 8 / 256 and 1 / 256; 3 / 8 and 1 / 8.
            ' 7 starts won, 1 lost (3.5%); alone 2 starts won, 1 lost (50.0%)'
        ],
    )

  def test_small_chances_are_not_zero(self):
    self._write('1' * 12, '1' * 12, clone={
        '0': {'success_rate': 0.0, 'outcomes': '0' * 12}
    })
    [text] = self._statements()
    self.assertIn('clone at temperature 0, with search 12 starts won, 0', text)
    self.assertEqual(text.count('(below 0.1%)'), 2)

  def test_without_outcomes_of_the_same_starts_nothing_is_said(self):
    self.assertEqual(self._statements(), [])
    self._write('11', '11', clone={'0': {'success_rate': 0.0}})
    self.assertEqual(self._statements(), [])
    self._write('11', '11', clone={
        '0': {'success_rate': 0.0, 'outcomes': '000'}
    })
    self.assertEqual(self._statements(), [])


if __name__ == '__main__':
  absltest.main()
