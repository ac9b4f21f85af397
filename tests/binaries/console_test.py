"""Tests of how every program ends: after help, wrong input or a bug."""

import contextlib
import io
import logging as stdlib_logging
import os
import subprocess
import sys
from unittest import mock

from absl import flags
from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import gin
import pytest

from parl_tf.binaries import cache
from parl_tf.binaries import collect
from parl_tf.binaries import console
from parl_tf.binaries import controls
from parl_tf.binaries import data
from parl_tf.binaries import doctor
from parl_tf.binaries import evaluate
from parl_tf.binaries import export
from parl_tf.binaries import launch
from parl_tf.binaries import learn
from parl_tf.binaries import report
from parl_tf.binaries import search
from parl_tf.binaries import serve
from parl_tf.binaries import train
from reverb_server import server
from tests import absent_libraries

_RUN = ('--root_dir=run', '--gin_file=quickstart.gin')
_PROGRAMS = {
    'parl-cache': cache,
    'parl-collect': collect,
    'parl-controls': controls,
    'parl-data': data,
    'parl-doctor': doctor,
    'parl-evaluate': evaluate,
    'parl-export': export,
    'parl-launch': launch,
    'parl-learn': learn,
    'parl-report': report,
    'parl-reverb-server': server,
    'parl-search': search,
    'parl-serve': serve,
    'parl-train': train,
}

# Libraries that no program may import before it works.
_SLOW_LIBRARIES = (
    'gymnasium', 'h5py', 'matplotlib', 'mujoco', 'pandas', 'ray', 'reverb',
    'rich', 'rliable', 'scipy', 'tensorflow', 'tf_agents',
)
# Prints the help of a program and fails if it imports a slow library.
_PRINT_HELP = """
import importlib, sys
module, *slow = sys.argv[1:]
sys.argv = ['program', '--help']
try:
  importlib.import_module(module).run()
finally:
  imported = [library for library in slow if library in sys.modules]
  assert not imported, imported
"""
# Prints less than the output's buffer holds, or more.
_PRINT_A_LOT = '''"A program."
import sys
from parl_tf.binaries import console
def main(argv):
  print('line\\n' * (10**5 if argv[1] == 'fail' else 1))
console.run('program', main, lambda: None)
'''


def _own_flags():
  """Returns the flags that modules outside absl define, by name."""
  return {
      name: flags.FLAGS[name]
      for name in flags.FLAGS
      if not (flags.FLAGS.find_module_defining_flag(name) or '').startswith(
          'absl.'
      )
  }


class ConsoleTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self.addCleanup(flags.FLAGS.mark_as_parsed)
    folder = self.create_tempdir()
    folder.create_file('torn.gin', content='Offline.num_steps = (3')
    folder.create_file('noise.hdf5', content='noise')
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(folder.full_path)

  def _run(self, run, *arguments):
    """Runs an entry point; returns its status, output and error output."""
    # Other tests may have imported benchmarks, whose flags have equal names.
    others = _own_flags()
    for name in others:
      delattr(flags.FLAGS, name)
    before = set(flags.FLAGS)
    output, errors = io.StringIO(), io.StringIO()
    try:
      with (
          mock.patch.object(sys, 'argv', ['program', *arguments]),
          contextlib.redirect_stdout(output),
          contextlib.redirect_stderr(errors),
          self.assertRaises(SystemExit) as ended,
      ):
        run()
    finally:
      for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
      for name, flag in others.items():
        flags.FLAGS[name] = flag
    return ended.exception.code, output.getvalue(), errors.getvalue()

  @parameterized.parameters(*_PROGRAMS)
  def test_help_lists_the_flags_of_the_program(self, name):
    # In its own process, which shows what it imports.
    completed = absent_libraries.run(
        (), '-c', _PRINT_HELP, _PROGRAMS[name].__name__, *_SLOW_LIBRARIES
    )

    self.assertEqual((completed.returncode, completed.stderr), (0, ''))
    output = completed.stdout
    self.assertStartsWith(output, _PROGRAMS[name].__doc__)
    self.assertIn(f'\n  {name} --', output.replace(' generate pointmaze', ''))
    self.assertIn('\n  --debug\n', output)
    self.assertNotIn('alsologtostderr', output)
    self.assertLessEqual(max(map(len, output.splitlines())), 80)

  def test_helpfull_also_lists_the_flags_of_absl(self):
    completed = absent_libraries.run((), '-m', train.__name__, '--helpfull')

    self.assertEqual(completed.stderr, '')
    self.assertIn('--root_dir:', completed.stdout)
    self.assertIn('alsologtostderr', completed.stdout)

  @parameterized.parameters(
      ('parl-cache', '--output, --policy, --gin_file must be given'),
      ('parl-cache', '--dataset must be given', '--output=x', '--policy=ws://p',
       '--gin_file=quickstart.gin'),
      ('parl-collect', '--gin_file must be given', '--root_dir=run'),
      ('parl-controls', '--runs must be given'),
      ('parl-data', 'parl-data generate .* got parl-data inf', 'inf'),
      ('parl-evaluate', '--gin_file must be given', '--policy=p'),
      ('parl-evaluate', '--policy, --root_dir or --follow must',
       '--gin_file=quickstart.gin'),
      ('parl-evaluate', 'end in .mp4 or .gif, got walk', '--policy=p',
       '--gin_file=quickstart.gin', '--video=walk'),
      ('parl-data', '--overwrite replaces files only', 'convert', 'data',
       '--format=lerobot', '--output=x', '--overwrite'),
      ('parl-doctor', '--policy and --gin_file must', '--policy=ws://x:1'),
      ('parl-doctor', '--dataset needs --policy', '--dataset=x.hdf5'),
      ('parl-doctor', '--policy must be the URL of a server', '--policy=dir',
       '--gin_file=quickstart.gin'),
      ('parl-export', 'use parl-serve --base', '--root_dir=r', '--output=x',
       '--base=ws://x:1'),
      ('parl-serve', '--base must be the URL of a server', '--base=dir',
       '--root_dir=r'),
      ('parl-export', '--root_dir, --output must be given'),
      ('parl-export', '--threshold is for --base', '--root_dir=r', '--output=x',
       '--threshold=1'),
      ('parl-export', '--policy cannot be combined with --base', '--root_dir=r',
       '--output=x', '--base=b', '--policy=policy'),
      ('parl-export', 'behavior_cloning has no trained critic', '--root_dir=r',
       '--output=x', '--base=b', '--checkpoint=behavior_cloning'),
      ('parl-launch', '--num_collectors=0: 0 is not', '--num_collectors=0'),
      ('parl-launch', '--port=65536: 65536 is not', '--port=65536'),
      ('parl-learn', 'Unknown command line flag .gin_fil', '--gin_fil=x'),
      ('parl-report', '--output must be given', '--runs=run'),
      ('parl-evaluate', 'cannot be combined with a SavedModel', '--policy=p',
       '--root_dir=run', '--gin_file=quickstart.gin'),
      ('parl-evaluate', '--alone is for the policy of a run', '--policy=p',
       '--gin_file=quickstart.gin', '--alone'),
      ('parl-evaluate', '--temperature is for a policy that acts alone',
       '--root_dir=run', '--temperature=0'),
      ('parl-evaluate', '--checkpoint is one of a run', '--policy=ws://x:1',
       '--gin_file=quickstart.gin', '--checkpoint=best'),
      ('parl-search', '--num_samples must be integers above 0, .* got .0,4.',
       '--root_dir=r', '--num_samples=0,4'),
      ('parl-search', '--step_sizes must be numbers above 0, .* got .small.',
       '--root_dir=r', '--step_sizes=small'),
      ('parl-search', '--num_final_episodes has no effect with --num_rounds 1',
       '--root_dir=r', '--num_rounds=1', '--num_final_episodes=8'),
      ('parl-serve', 'the configuration it was exported with', '--policy=p',
       '--gin_bindings=a.b = 1'),
      ('parl-serve', '--checkpoint is one of --root_dir', '--policy=p',
       '--checkpoint=best'),
      ('parl-reverb-server', 'Both --root_dir and --gin_file'),
      ('parl-serve', 'Exactly one of --policy and --base', '--port=0'),
      ('parl-serve', '--port=65536: 65536 is not', '--port=65536'),
      ('parl-train', '--seed=-1: -1 is not', *_RUN, '--seed=-1'),
  )
  def test_wrong_usage_is_one_line(self, name, message, *arguments):
    status, output, errors = self._run(_PROGRAMS[name].run, *arguments)

    self.assertEqual((status, output), (2, ''))
    self.assertRegex(
        errors, rf'^{name}: error: .*{message}.* See {name} --help\.\n$'
    )

  @parameterized.parameters(
      ('parl-data', "no gin file 'domains/no.gin'",
       'generate', 'no', '--output=x'),
      ('parl-evaluate', "got 'no'", '--policy=no', '--gin_file=quickstart.gin'),
      ('parl-export', 'not a run directory', '--root_dir=no', '--output=x'),
      ('parl-report', 'no directory no', '--runs=no', '--output=x'),
      ('parl-search', "'Serch' to .* mean 'Search'", '--root_dir=no',
       '--gin_bindings=evaluation/Serch.num_samples = 3'),
      ('parl-search', 'not a run directory', '--root_dir=no'),
      ('parl-train', "--gin_bindings 'Of.*'Ofline' to .* mean 'Offline'",
       *_RUN, '--gin_bindings=Ofline.num_steps = 3'),
      ('parl-train', 'not be negative, got -3. .gin: Offline',
       *_RUN, '--gin_bindings=Offline.num_steps = -3'),
      ('parl-train', 'noise.hdf5: must be .* HDF5 file', *_RUN,
       '--gin_bindings=run_experiment.dataset_path = "noise.hdf5"'),
      ('parl-data', 'noise.hdf5 exists: give --overwrite',
       'convert', 'x', '--output=noise.hdf5'),
      ('parl-train', 'must be a directory, but .*noise.hdf5 is a file',
       '--root_dir=noise.hdf5/run', '--gin_file=quickstart.gin'),
  )
  def test_wrong_input_is_one_line(self, name, message, *arguments):
    self._check_input_error(name, message, *arguments)

  @parameterized.parameters(
      ('parl-collect', "no gin file 'no.gin'", 'no.gin'),
      ('parl-learn', 'torn.gin.*line', 'torn.gin'),
      ('parl-reverb-server', "no gin file 'no.gin'", 'no.gin'),
  )
  @pytest.mark.reverb
  def test_wrong_input_of_a_role_is_one_line(self, name, message, gin_file):
    self._check_input_error(
        name, message, '--root_dir=r', f'--gin_file={gin_file}'
    )

  def _check_input_error(self, name, message, *arguments):
    status, output, errors = self._run(_PROGRAMS[name].run, *arguments)

    self.assertEqual((status, output), (1, ''))
    self.assertRegex(errors.splitlines()[-1], f'^{name}: error: .*{message}')
    self.assertNotIn('Traceback', errors)

  @parameterized.parameters(('--help', 0), ('describe', 0), ('fail', 141))
  def test_output_may_be_read_in_part(self, argument, status):
    program = [sys.executable, '-c', _PRINT_A_LOT, argument]
    with subprocess.Popen(
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONUNBUFFERED': ''},
    ) as process:
      process.stdout.close()
      errors = process.stderr.read()

    self.assertEqual((process.returncode, errors), (status, b''))

  def test_debug_raises_the_input_error(self):
    with self.assertRaisesRegex(ValueError, 'no is not a run directory'):
      self._run(export.run, '--root_dir=no', '--output=x', '--debug')

  def test_a_bug_is_raised(self):
    def main(argv):
      del argv
      return [][1]

    with self.assertRaises(IndexError):
      self._run(lambda: console.run('program', main, lambda: None))

  def test_exit_status_is_the_return_value_of_main(self):
    status, _, _ = self._run(
        lambda: console.run('program', len, lambda: None), 'a', 'b'
    )

    self.assertEqual(status, 3)

  def test_interrupted_run_prints_the_command_that_resumes_it(self):
    def main(argv):
      raise KeyboardInterrupt

    status, _, errors = self._run(
        lambda: console.run(
            'program', main, lambda: None, is_resumable=True
        ),
        'a b',
    )

    self.assertEqual(status, 130)
    self.assertEqual(errors, "\nInterrupted. To resume: program 'a b'\n")

  def test_the_message_of_an_interruption_is_printed(self):
    def main(argv):
      raise KeyboardInterrupt('The server has other weights.')

    _, _, errors = self._run(
        lambda: console.run('program', main, lambda: None)
    )

    self.assertEqual(errors, '\nInterrupted.\nThe server has other weights.\n')


class ShownMessagesTest(absltest.TestCase):

  def test_routine_messages_of_others_are_hidden(self):
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
      console.show_our_messages()
      handler = logging.get_absl_handler()
      for path, level, message in (
          (console.__file__, 'INFO', 'ours'),
          ('/site-packages/tf_agents/x.py', 'INFO', 'hidden'),
          ('/site-packages/tf_agents/x.py', 'WARNING', 'theirs'),
          (
              '/site-packages/tf_agents/train/learner.py',
              'WARNING',
              'run_optimizer_variable_init = False is Deprecated',
          ),
      ):
        handler.handle(
            stdlib_logging.LogRecord(
                'root', getattr(stdlib_logging, level), path, 1, message, (),
                None,
            )
        )

    shown = [line.split('] ')[1] for line in stream.getvalue().splitlines()]
    self.assertEqual(shown, ['ours', 'theirs'])


if __name__ == '__main__':
  absltest.main()
