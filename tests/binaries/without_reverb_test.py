"""Tests of the programs without Reverb."""

import os
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

from tests import absent_libraries
from tests.binaries import tiny

_MEND = 'need Reverb: pip install "dm-reverb'
_COMMANDS = {
    'server': ['reverb_server.server'],
    'learner': ['parl_tf.binaries.learn'],
    'collector': ['parl_tf.binaries.collect'],
    'launcher': ['parl_tf.binaries.launch'],
    'evaluator': ['parl_tf.binaries.evaluate', '--follow=localhost:1'],
    'tables': [
        'parl_tf.binaries.train',
        '--gin_bindings=import parl_tf.replay.reverb_experience',
    ],
}


class WithoutReverbTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    with tempfile.TemporaryDirectory() as folder:
      completed = absent_libraries.run_modules(
          ['reverb'],
          [
              [
                  *command,
                  f'--gin_file={tiny.GIN_FILE}',
                  f'--root_dir={folder}/{name}',
              ]
              for name, command in _COMMANDS.items()
          ],
      )
    cls._completed = dict(zip(_COMMANDS, completed, strict=True))

  def test_run_goes_from_data_to_policies(self):
    root_dir = tiny.finished_run()  # Without Reverb.

    self.assertLen(tiny.read_metrics(root_dir), tiny.NUM_ROWS)
    self.assertTrue(os.path.exists(os.path.join(root_dir, 'summary.json')))

  @parameterized.parameters(*_COMMANDS)
  def test_program_that_needs_it_prints_how_to_get_it(self, name):
    completed = self._completed[name]

    self.assertEqual(completed.returncode, 1)
    lines = completed.stderr.splitlines()
    self.assertLen(lines, 1, completed.stderr)
    self.assertIn(_MEND, lines[0])


if __name__ == '__main__':
  absltest.main()
