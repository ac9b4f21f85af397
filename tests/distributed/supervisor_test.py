"""Tests that Ray keeps roles alive on this machine."""

import contextlib
import json
import os
import time
from unittest import mock

from absl import logging
from absl.testing import absltest
import psutil
import ray

from parl_tf.distributed import ray_session
from parl_tf.distributed import supervisor as supervisor_lib

_SECONDS = 120.0  # Timeout, with room for a busy machine.


def _connections(process):
  """Returns the connections of a process; none if it has ended meanwhile."""
  try:
    return process.net_connections('inet')
  except psutil.NoSuchProcess:
    return []


class RestartDelayTest(absltest.TestCase):

  def test_it_doubles_up_to_a_minute(self):
    self.assertEqual(
        [supervisor_lib.restart_delay(n) for n in (0, 1, 2, 6, 5_000)],
        [1.0, 2.0, 4.0, 60.0, 60.0],
    )


class WatchedTest(absltest.TestCase):
  """Tests of one role without Ray."""

  def setUp(self):
    super().setUp()
    self._ray = self.enter_context(mock.patch.object(supervisor_lib, 'ray'))

  def _watch(self, **environment):
    role = supervisor_lib.Role('role', ['true'], environment={'WORD': 'own'})
    return supervisor_lib._Watched(
        role,
        self.create_tempdir().full_path,
        environment,
        mock.Mock(**{'find.return_value': None}),
    )

  def test_role_that_ran_for_a_minute_is_restarted_soon_again(self):
    time_ = self.enter_context(mock.patch.object(supervisor_lib, 'time'))
    time_.monotonic.return_value = 0.0
    watched = self._watch()
    delays = []
    for now in (0.0, 0.0, 59.0, 60.0):
      time_.monotonic.return_value = now
      watched._fail('status 1')
      delays.append(watched._start_at - now)

    self.assertEqual(delays, [1.0, 2.0, 4.0, 1.0])

  def test_environment_of_a_role_overrides_that_of_all_roles(self):
    self._watch(WORD='all', OTHER='all')

    make_actor = self._ray.remote.return_value.options.return_value.remote
    _, environment, _ = make_actor.call_args.args
    self.assertEqual(environment, {'WORD': 'own', 'OTHER': 'all'})


class SupervisorTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    ray_session.start(None, num_cpus=1)
    cls.addClassCleanup(ray.shutdown)

  def setUp(self):
    super().setUp()
    self._logs = self.create_tempdir().full_path

  @contextlib.contextmanager
  def _impatient(self):
    with mock.patch.multiple(
        supervisor_lib, restart_delay=lambda _: 0.0, _MAX_STARTS=2
    ):
      yield

  def _run(self, roles, is_over):
    supervisor = supervisor_lib.Supervisor(roles, self._logs, {'WORD': 'hello'})
    deadline = time.monotonic() + _SECONDS
    while not is_over(supervisor):
      self.assertLess(time.monotonic(), deadline)
      supervisor.step()
      time.sleep(0.05)
    for role in roles:
      supervisor.stop(role.name)
    return supervisor

  def _read(self, name):
    with open(os.path.join(self._logs, f'{name}.log'), encoding='utf-8') as f:
      return f.read()

  def test_role_that_fails_is_restarted_until_it_succeeds(self):
    once = os.path.join(self._logs, 'once')
    command = f'echo $WORD; test -e {once} && exit 0; touch {once}; kill -9 $$'

    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      supervisor = self._run(
          [supervisor_lib.Role('role', ['sh', '-c', command], is_here=True)],
          lambda supervisor: supervisor.has_ended('role'),
      )

    self.assertRegex(logs.output[0], 'role.log, which ends: hello$')
    self.assertEqual(supervisor.num_restarts(), {'role': 1})
    self.assertEqual(self._read('role'), 'hello\nhello\n')

  def test_role_that_cannot_be_placed_does_not_delay_the_others(self):
    roles = [
        supervisor_lib.Role('first', ['sleep', '1000'], num_cpus=1),
        supervisor_lib.Role('second', ['sleep', '1000'], num_cpus=1),
        supervisor_lib.Role('short', ['sh', '-c', 'echo done'], is_here=True),
    ]
    supervisor = supervisor_lib.Supervisor(roles, self._logs)
    deadline = time.monotonic() + _SECONDS
    longest = 0.0
    while not supervisor.has_ended('short'):
      self.assertLess(time.monotonic(), deadline)
      start = time.monotonic()
      supervisor.step()
      longest = max(longest, time.monotonic() - start)
      time.sleep(0.05)
    for role in roles:
      supervisor.stop(role.name)

    self.assertLess(longest, 20.0)
    self.assertEqual(self._read('short'), 'done\n')

  def test_full_disk_for_a_log_does_not_end_the_others(self):
    os.symlink('/dev/full', os.path.join(self._logs, 'role.log'))

    with self.assertLogs(level='ERROR') as logs:
      supervisor = self._run(
          [supervisor_lib.Role('role', ['sh', '-c', 'echo up'])],
          lambda supervisor: supervisor.has_ended('role'),
      )

    self.assertTrue(supervisor.has_ended('role'))
    self.assertIn('No space left', logs.output[0])

  def test_stopped_role_is_not_restarted(self):
    role = supervisor_lib.Role('role', ['sh', '-c', 'echo up; sleep 1000'])

    supervisor = self._run(
        [role],
        lambda _: os.path.exists(os.path.join(self._logs, 'role.log')),
    )
    supervisor.step()

    self.assertTrue(supervisor.has_ended('role'))
    self.assertEqual(supervisor.num_restarts(), {})
    self.assertEqual(self._read('role'), 'up\n')

  def test_role_that_always_fails_at_its_start_ends_the_launch(self):
    command = 'echo $$; echo learner: no such file; exit 1'
    with self._impatient():
      with self.assertRaisesRegex(
          ValueError,
          'role ended 2 times .* status 1.*role.log, which ends: learner: no',
      ):
        self._run(
            [supervisor_lib.Role('role', ['sh', '-c', command], is_here=True)],
            lambda _: False,
        )
    self.assertEqual(self._read('role').count('learner: no such file'), 2)

  def test_role_that_has_run_well_is_restarted(self):
    # Its first process runs for longer than a healthy one must, three fail.
    command = 'n=$(ls | wc -l); touch $$; test $n = 0 && sleep 2; exit 1'
    folder = self.create_tempdir().full_path
    command = f'cd {folder}; test $(ls | wc -l) -gt 3 && exit 0; {command}'
    with self._impatient():
      with mock.patch.object(supervisor_lib, '_HEALTHY_SECONDS', 1.0):
        supervisor = self._run(
            [supervisor_lib.Role('role', ['sh', '-c', command], is_here=True)],
            lambda supervisor: supervisor.has_ended('role'),
        )
    self.assertEqual(supervisor.num_restarts(), {'role': 4})

  def test_role_whose_errors_differ_is_restarted(self):
    command = 'test $(ls | wc -l) -gt 2 && exit 0; touch $$; echo $$; exit 1'
    folder = self.create_tempdir().full_path
    with self._impatient():
      supervisor = self._run(
          [
              supervisor_lib.Role(
                  'role',
                  ['sh', '-c', f'cd {folder}; {command}'],
                  is_here=True,
              )
          ],
          lambda supervisor: supervisor.has_ended('role'),
      )
    self.assertEqual(supervisor.num_restarts(), {'role': 3})

  def test_ray_listens_on_loopback_only(self):
    # Includes a worker, which exists once a role has run.
    self._run(
        [supervisor_lib.Role('role', ['sh', '-c', 'echo up'])],
        lambda supervisor: supervisor.has_ended('role'),
    )
    hosts = {
        connection.laddr.ip.removeprefix('::ffff:')
        for process in psutil.Process().children(recursive=True)
        for connection in _connections(process)
        if connection.status == psutil.CONN_LISTEN
    }
    self.assertEqual(hosts, {'127.0.0.1'})

  def test_role_that_must_not_end_is_restarted(self):
    once = os.path.join(self._logs, 'once')
    command = f'test -e {once} && echo again && sleep 1000; touch {once}'
    roles = [
        supervisor_lib.Role('role', ['sh', '-c', command], may_end=False),
    ]

    supervisor = self._run(
        roles, lambda _: os.path.exists(os.path.join(self._logs, 'role.log'))
    )

    self.assertEqual(supervisor.num_restarts(), {'role': 1})

  def test_role_that_ray_kills_when_out_of_memory_is_restarted(self):
    get = ray.get
    answers = [ray.exceptions.OutOfMemoryError('no memory')]

    def get_or_raise(*args, **kwargs):
      if answers:
        raise answers.pop()
      return get(*args, **kwargs)

    self.enter_context(mock.patch.object(ray, 'get', get_or_raise))
    supervisor = self._run(
        [supervisor_lib.Role('role', ['sh', '-c', 'echo up'])],
        lambda supervisor: supervisor.has_ended('role'),
    )

    self.assertEqual(supervisor.num_restarts(), {'role': 1})

  def test_role_keeps_its_machine_and_a_lost_machine_is_logged(self):
    path = os.path.join(self._logs, 'hosts.json')
    with open(path, 'w', encoding='utf-8') as file:
      file.write('{"role": "10.0.0.7", "other": "10.0.0.8"}')

    def run():
      self._run(
          [supervisor_lib.Role('role', ['sh', '-c', 'echo up'])],
          lambda supervisor: supervisor.has_ended('role'),
      )

    with self.assertLogs(level='WARNING') as logs:
      run()
    with self.assertNoLogs(level='WARNING'):
      run()

    self.assertIn(
        'now runs on 127.0.0.1; its earlier files remain on 10.0.0.7',
        logs.output[0],
    )
    with open(path, encoding='utf-8') as file:
      self.assertEqual(
          json.load(file), {'role': '127.0.0.1', 'other': '10.0.0.8'}
      )

  def test_role_has_the_working_directory_of_the_launcher(self):
    self._run(
        [supervisor_lib.Role('role', ['pwd'])],
        lambda supervisor: supervisor.has_ended('role'),
    )

    self.assertEqual(self._read('role'), os.getcwd() + '\n')


if __name__ == '__main__':
  absltest.main()
