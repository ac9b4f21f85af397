"""Tests of the programs without Reverb."""

import os

from absl.testing import absltest
from absl.testing import parameterized

from tests import absent_libraries
from tests.binaries import tiny

_INSTRUCTION = 'need Reverb: pip install "dm-reverb'


class WithoutReverbTest(parameterized.TestCase):

  def _run(self, module, *arguments):
    return absent_libraries.run(
        ['reverb'], '-m', module, f'--gin_file={tiny.GIN_FILE}', *arguments
    )

  def test_complete_run_needs_no_reverb(self):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')

    completed = self._run(
        'parl_tf.binaries.train',
        f'--root_dir={root_dir}',
        *(f'--gin_bindings={x}' for x in tiny.BINDINGS),
    )

    self.assertEqual(completed.returncode, 0, completed.stderr)
    self.assertLen(tiny.read_metrics(root_dir), tiny.NUM_ROWS)
    self.assertTrue(os.path.exists(os.path.join(root_dir, 'summary.json')))

  @parameterized.named_parameters(
      ('server', 'reverb_server.server'),
      ('learner', 'parl_tf.binaries.learn'),
      ('collector', 'parl_tf.binaries.collect'),
      ('launcher', 'parl_tf.binaries.launch'),
      ('evaluator', 'parl_tf.binaries.evaluate', '--follow=localhost:1'),
      (
          'tables',
          'parl_tf.binaries.train',
          '--gin_bindings=import parl_tf.replay.reverb_experience',
      ),
  )
  def test_missing_reverb_is_an_error_that_says_how_to_install_it(
      self, module, *arguments
  ):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')

    completed = self._run(module, f'--root_dir={root_dir}', *arguments)

    self.assertEqual(completed.returncode, 1)
    lines = completed.stderr.splitlines()
    self.assertLen(lines, 1, completed.stderr)
    self.assertIn(_INSTRUCTION, lines[0])


if __name__ == '__main__':
  absltest.main()
