"""Tests of the programs without Reverb."""

import os
import pathlib

from absl.testing import absltest
from absl.testing import parameterized

from tests import absent_libraries
from tests import programs
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
# Runs a module as `python -m` does, after the file that hides Reverb.
_PROGRAM = """
import runpy, sys
assert 'reverb' not in sys.modules
exec(open('sitecustomize.py').read())
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
"""


class WithoutReverbTest(parameterized.TestCase):

  def test_run_goes_from_data_to_policies(self):
    root_dir = tiny.finished_run()  # Without Reverb.

    self.assertLen(tiny.read_metrics(root_dir), tiny.NUM_ROWS)
    self.assertTrue(os.path.exists(os.path.join(root_dir, 'summary.json')))

  @parameterized.parameters(*_COMMANDS)
  def test_program_that_needs_it_prints_how_to_get_it(self, name):
    folder = self.create_tempdir()
    absent_libraries.environment(['reverb'], folder.full_path)
    folder.create_file('program.py', _PROGRAM)
    log = folder.create_file('log').full_path
    program = programs.Program(
        'program',
        *_COMMANDS[name],
        f'--gin_file={tiny.GIN_FILE}',
        f'--root_dir={folder.full_path}/run',
        output=log,
        folder=folder.full_path,
    )

    self.assertEqual(program.wait(), 1)
    lines = pathlib.Path(log).read_text('utf-8').splitlines()
    self.assertLen(lines, 1, lines)
    self.assertIn(_MEND, lines[0])


if __name__ == '__main__':
  absltest.main()
