"""Tests of messages of other packages in a process that imports them."""

import os
import signal
import subprocess
import sys

from absl.testing import absltest

from parl_tf.binaries import third_party_messages
from tests.binaries import tiny

_PROGRAM = """
from parl_tf.binaries import console
from parl_tf.binaries import third_party_messages
import gymnasium_robotics
import tensorflow as tf
import tf_agents.environments

def main(argv):
  third_party_messages.silence_first_compilation()
  tf.function(lambda: tf.zeros([2]), jit_compile=True)()
  tf.saved_model.save(tf.Module(), argv[1])
  tf.get_logger().warning('A warning of TensorFlow.')

console.run('program', main, lambda: None)
"""

# The tasks of OGBench and the ant's mazes use old parts of gymnasium.
_TASKS = """
import parl_tf.binaries
from parl_tf.domains import antmaze
from parl_tf.domains import ogbench

for domain in (ogbench.Cube(), antmaze.AntMaze()):
  domain.make_environment(0, False).reset()
"""

# Takes the place of TensorFlow.
_ABORTING = """
import os
os.write(2, b'I0000 00:00:1795276844.745040   15342 port.cc:153] oneDNN\\n')
os.write(2, b'F0000 00:00:1795276844.745041   15342 guard.cc:1] No AVX.\\n')
os.abort()
"""


class ThirdPartyMessagesTest(absltest.TestCase):

  def test_the_folder_of_an_uninstalled_tensorflow_is_found_as_one(self):
    folder = self.create_tempdir()
    folder.mkdir('tensorflow')
    finder = third_party_messages._TensorFlowFinder()  # pylint: disable=protected-access

    spec = finder.find_spec('tensorflow', [folder.full_path])

    self.assertIsNone(spec.loader)

  def test_only_warnings_are_printed(self):
    folder = self.create_tempdir().full_path
    done = subprocess.run(
        [sys.executable, '-c', _PROGRAM, folder],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    self.assertEqual(done.stdout, '')
    self.assertRegex(done.stderr, r'\AW.*\] A warning of TensorFlow\.\n\Z')

  def test_tasks_print_nothing(self):
    done = subprocess.run(
        [sys.executable, '-c', _TASKS],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    self.assertEqual(done.stdout + done.stderr, '')

  def test_message_of_an_aborted_import_is_printed(self):
    file = self.create_tempfile('tensorflow.py', _ABORTING)
    folder = os.path.dirname(file.full_path)
    done = subprocess.run(
        [sys.executable, '-c', 'import parl_tf.binaries, tensorflow'],
        env={**os.environ, 'PYTHONPATH': f'{folder}{os.pathsep}{tiny.ROOT}'},
        capture_output=True,
        text=True,
        check=False,
    )

    self.assertEqual(done.returncode, -signal.SIGABRT)
    self.assertRegex(done.stderr, r'\AF0000 .* No AVX\.\n')
    self.assertNotIn('oneDNN', done.stderr)

  def test_preset_log_level_is_kept(self):
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            'import parl_tf.binaries, os;'
            ' print(os.environ["TF_CPP_MIN_LOG_LEVEL"])',
        ],
        env={**tiny.environment(), 'TF_CPP_MIN_LOG_LEVEL': '1'},
        capture_output=True,
        text=True,
        check=True,
    )

    self.assertEqual(done.stdout, '1\n')


if __name__ == '__main__':
  absltest.main()
