"""Launches a run on a Ray cluster of two hosts, and cuts the cable for a while.

  python -m benchmarks.two_hosts --root_dir /tmp/two_hosts

The hosts are two network namespaces of this machine, joined by a virtual cable;
what stands in `root_dir` each has for itself. Root makes them (`ip`, of
iproute2). Service, learner and evaluator have the first host, both collectors
the second. Prints where the roles are, the launcher's progress, and what was
collected; fails unless the run ends with status 0 and the collectors were where
they should.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from typing import Dict, List

from absl import app
from absl import flags
from absl import logging

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of the run; must be new.', required=True
)
_GIN_FILE = flags.DEFINE_multi_string(
    'gin_file', ['quickstart.gin'], 'gin files of the experiment.'
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings',
    [
        'run_experiment.num_recorded_steps = 2_000',
        'run_experiment.num_evaluation_episodes = 2',
        'BehaviorCloning.num_steps = 250',
        'BehaviorCloning.min_steps = 0',
        'Offline.num_steps = 100',
        'Online.num_episodes = 30',
        'Online.evaluation_interval = 15',
    ],
    'What of them is changed.',
)
_CUT_SECONDS = flags.DEFINE_float('cut_seconds', 10.0, 'Without the cable.')
_TIMEOUT_SECONDS = flags.DEFINE_float('timeout_seconds', 1200.0, 'Of the run.')

_HOSTS = {'parl_first': '10.213.7.1', 'parl_second': '10.213.7.2'}
_FIRST, _SECOND = _HOSTS
_RAY = f'{_HOSTS[_FIRST]}:6379'
_BIN = os.path.dirname(sys.executable)


def _ip(*arguments: str) -> None:
  subprocess.run(['ip', *arguments], check=True)


def _cable(state: str) -> None:
  _ip('-n', _FIRST, 'link', 'set', 'cable', state)


@contextlib.contextmanager
def hosts():
  """Two hosts with a cable between them, as long as the context lasts."""
  with contextlib.ExitStack() as stack:
    for host in _HOSTS:
      _ip('netns', 'add', host)
      stack.callback(_ip, 'netns', 'del', host)
      _ip('-n', host, 'link', 'set', 'lo', 'up')
    _ip(
        'link', 'add', 'cable', 'netns', _FIRST, 'type', 'veth',
        'peer', 'name', 'cable', 'netns', _SECOND,
    )
    for host, address in _HOSTS.items():
      _ip('-n', host, 'address', 'add', f'{address}/24', 'dev', 'cable')
      _ip('-n', host, 'link', 'set', 'cable', 'up')
    yield
    for host in _HOSTS:
      for process in _processes(host):
        with contextlib.suppress(ProcessLookupError):  # It has just ended.
          os.kill(process, 9)


def _on(host: str, command: List[str], environment: Dict[str, str], **options):
  """Starts a command on a host."""
  return subprocess.Popen(
      ['ip', 'netns', 'exec', host, *command],
      env={**os.environ, **environment},
      **options,
  )


def _processes(host: str) -> List[int]:
  listing = subprocess.check_output(['ip', 'netns', 'pids', host], text=True)
  return [int(line) for line in listing.split()]


def _roles(host: str) -> List[str]:
  """Returns the modules of our roles that run on `host`."""
  found = set()
  for process in _processes(host):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
      with open(f'/proc/{process}/cmdline', encoding='utf-8') as file:
        words = file.read().split('\0')
      for module, argument in zip(words, words[1:]):
        if module == '-m':
          found.add(argument)
  return sorted(found)


def run(root_dir: str) -> None:
  """Starts the cluster, launches, cuts and waits."""
  # A disk of the second host's own covers the directory there.
  os.makedirs(root_dir)
  environment = {'RAY_AUTH_MODE': 'disabled', 'RAY_worker_niceness': '0'}
  ray = os.path.join(_BIN, 'ray')
  head = [
      ray, 'start', '--head', f'--node-ip-address={_HOSTS[_FIRST]}',
      '--port=6379', '--num-cpus=0', '--include-dashboard=false', '--block',
  ]
  node = [
      ray, 'start', f'--address={_RAY}', '--num-cpus=2', '--block',
      f'--node-ip-address={_HOSTS[_SECOND]}',
  ]
  covered = ['sh', '-c', 'mount -t tmpfs none "$0" && exec "$@"', root_dir]
  quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  _on(_FIRST, head, environment, **quiet)
  time.sleep(15.0)
  _on(_SECOND, [*covered, *node], environment, **quiet)
  time.sleep(10.0)
  launcher = _on(
      _FIRST,
      [
          os.path.join(_BIN, 'parl-launch'),
          f'--ray_address={_RAY}',
          f'--root_dir={root_dir}',
          '--num_collectors=2',
          '--collector_cpus=1',
          '--num_evaluation_episodes=8',
          *(f'--gin_file={name}' for name in _GIN_FILE.value),
          *(f'--gin_bindings={text}' for text in _GIN_BINDINGS.value),
      ],
      environment,
  )
  try:
    _watch(launcher, os.path.join(root_dir, 'episodes'))
  finally:
    if launcher.poll() is None:
      launcher.terminate()
      launcher.wait()


def _watch(launcher: subprocess.Popen, log_dir: str) -> None:
  """Cuts the cable once episodes come, and waits for the end."""
  deadline = time.monotonic() + _TIMEOUT_SECONDS.value
  is_cut = False
  while launcher.poll() is None:
    if time.monotonic() > deadline:
      raise TimeoutError(
          f'The run must end within {_TIMEOUT_SECONDS.value} s.'
      )
    if not is_cut and _num_episodes(log_dir) >= 12:
      where = {host: _roles(host) for host in _HOSTS}
      print(f'roles: {where}', flush=True)
      collectors = 'parl_tf.binaries.collect'
      if collectors in where[_FIRST] or collectors not in where[_SECOND]:
        raise AssertionError('Both collectors must be on the second host.')
      _cable('down')
      time.sleep(_CUT_SECONDS.value)
      _cable('up')
      print(f'the cable was cut for {_CUT_SECONDS.value:.0f} s', flush=True)
      is_cut = True
    time.sleep(1.0)
  if launcher.returncode or not is_cut:
    raise AssertionError(
        f'`parl-launch` must end with status 0, got {launcher.returncode};'
        f' the cable was {"" if is_cut else "not "}cut.'
    )
  print(f'ended with status 0; the log has {_num_episodes(log_dir)} episodes')


def _num_episodes(log_dir: str) -> int:
  if not os.path.isdir(log_dir):
    return 0
  return sum(name.endswith('.npz') for name in os.listdir(log_dir))


def main(argv):
  """Makes the hosts and runs."""
  del argv
  if os.geteuid() or not shutil.which('ip'):
    raise app.UsageError('This needs root, and `ip` of iproute2.')
  logging.set_verbosity(logging.WARNING)
  with hosts():
    run(os.path.abspath(_ROOT_DIR.value))


if __name__ == '__main__':
  app.run(main)
