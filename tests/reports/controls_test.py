"""Tests of the controls that a run directory may hold."""

import json
import os

from absl.testing import absltest

from parl_tf.reports import controls
from parl_tf.reports import runs as runs_lib
from tests.reports import run_folders


class ControlsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self._root = run_folders.write_study(
        self.create_tempdir().full_path, {'good': [80.0, 90.0]}
    )
    self._folder = os.path.join(self._root, 'good', 'seed_1')

  def _write(self, **content):
    path = os.path.join(self._folder, controls.FILE)
    run_folders.write_text(path, json.dumps(content))

  def test_table_has_controls_beside_the_result_of_the_last_phase(self):
    self._write(
        num_episodes=10,
        data={'num_episodes': 40, 'success_rate': 0.5},
        clone={
            '1': {'success_rate': 0.1, 'steps_to_success': 12.4},
            '0': {'success_rate': 0.25},
        },
    )
    runs = runs_lib.read_runs([self._root]).runs

    [line] = controls.table(runs)

    self.assertEqual(
        dict(zip(controls.HEADER, line, strict=True)),
        {
            'domain': 'LineWalk',
            'method': 'good',
            'seed': '1',
            'phase': 'online',
            'success': '0.900 in 37',
            'success without search': '0.450',
            'data': '0.500',
            'clone, T = 1': '0.100 in 12',
            'clone, T = 0.5': '-',
            'clone, T = 0': '0.250',
            'self-distillation': '-',
        },
    )

  def test_other_numbers_of_online_episodes_are_shown(self):
    # The runs have 0 online episodes in `metrics.csv`.
    for num_episodes, cell in ((0, '0.016 in 12'),
                               (31, '0.016 in 12 (31 episodes)')):
      scores = {'success_rate': 0.016, 'steps_to_success': 12.4}
      scores['num_online_episodes'] = num_episodes
      self._write(num_episodes=10, self_distillation=scores)

      [line] = controls.table(runs_lib.read_runs([self._root]).runs)

      self.assertEqual(line[-1], cell)

  def test_faulty_file_is_named(self):
    with open(os.path.join(self._folder, controls.FILE), 'wb') as file:
      file.write(b'\xff')
    with self.assertRaisesRegex(ValueError, 'controls.json must be UTF-8 text'):
      controls.read(self._folder)
    for content, message in (
        (dict(num_episodes=10, other=1), 'controls.json .*fields.*other'),
        (dict(num_episodes=10, data={}), 'json: `data.success_rate`.*None'),
    ):
      self._write(**content)
      with self.assertRaisesRegex(ValueError, message):
        controls.read(self._folder)


if __name__ == '__main__':
  absltest.main()
