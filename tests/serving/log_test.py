"""Tests the log of a server."""

import subprocess
import sys
import time

from absl.testing import absltest
import numpy as np

from parl_tf.serving import connection
from parl_tf.serving import log
from tests.serving import toy_policy

# Most programs show warnings only.
_PROGRAM = """
from parl_tf.serving import log
log.show()
log.show()
log.logger.info('Training begins.')
log.logger.warning('A warning.')
"""


def _train(client, version):
  return client.train(
      toy_policy.observation(2), np.ones([2, 4, 2]), num_steps=3, seed=0,
      version=version,
  ).version


class LogTest(absltest.TestCase):

  def test_trainings_saves_and_loads_are_logged(self):
    server = self.enter_context(
        toy_policy.serving(
            toy_policy.ToyPolicy().functions(),
            directory=self.create_tempdir().full_path,
        )
    )
    client = self.enter_context(toy_policy.connect(server))

    with self.assertLogs(log.logger, 'INFO') as logs:
      client.save('initial')
      version = _train(client, 'initial')
      _train(client, 'initial')  # The answer is repeated.
      client.load('initial')
      client.load('initial')

    lines = [record.getMessage() for record in logs.records]
    wanted = [
        'Saving begins: version initial.',
        r'Saving ended after \d+\.\d s: version initial.',
        r'Training \(3 steps, 2 rows\) begins: version initial.',
        r'Training \(3 steps, 2 rows\) ended after \d+\.\d s: version '
        + version.replace('+', r'\+'),
        rf'Loading initial begins: version {version}.'.replace('+', r'\+'),
        r'Loading initial ended after \d+\.\d s: version initial.',
    ]
    self.assertLen(lines, len(wanted))
    for line, pattern in zip(lines, wanted, strict=True):
      self.assertRegex(line, pattern)

  def test_a_client_that_ends_without_a_farewell_is_normal(self):
    server = self.enter_context(
        toy_policy.serving(toy_policy.ToyPolicy().functions())
    )
    client = toy_policy.connect(server)
    with self.assertLogs(log.logger, 'DEBUG') as logs:
      client._connection._socket.close_socket()
      deadline = time.monotonic() + 10.0
      while not logs.records and time.monotonic() < deadline:
        time.sleep(0.01)
    self.assertEqual([x.levelname for x in logs.records], ['DEBUG'])

  def test_a_failed_training_is_logged(self):
    def fail(*unused):
      raise OverflowError('a fault of the policy')

    functions = toy_policy.ToyPolicy().functions()._replace(train=fail)
    server = self.enter_context(toy_policy.serving(functions))
    client = self.enter_context(toy_policy.connect(server))

    with self.assertLogs(log.logger, 'INFO') as logs:
      with self.assertRaises(connection.PolicyServerError):
        _train(client, 'initial')

    self.assertRegex(
        logs.records[1].getMessage(),
        r'^Training .* failed after \d+\.\d s: version initial\.failed\.$',
    )

  def test_a_program_that_shows_warnings_shows_each_line_once(self):
    done = subprocess.run(
        [sys.executable, '-c', _PROGRAM],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stderr.splitlines()
    self.assertLen(lines, 2)
    self.assertEndsWith(lines[0], ' Training begins.')
    self.assertEndsWith(lines[1], ' A warning.')


if __name__ == '__main__':
  absltest.main()
