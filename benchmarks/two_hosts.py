"""Tests a run on a Ray cluster of two hosts with network and process failures.

  python -m benchmarks.two_hosts --root_dir /tmp/two_hosts

The hosts are two network namespaces of this machine, connected by a virtual
cable, and each has a separate `root_dir`. Creating them requires root
and `ip` of iproute2. Service, learner and evaluator run on the first host, and
Ray distributes three collectors over both. Once episodes arrive, the cable is
cut for a while, and then every collector is killed with SIGKILL. Prints the
placement of the roles and the launcher's progress. Fails unless each collector
returns on its own host, whose disk has its spool, and the run ends with status
0.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Dict, List, Tuple

from absl import app
from absl import flags
from absl import logging

from benchmarks import drill_run

_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None, 'Directory of the run; must be new.', required=True
)
_GIN_FILE = flags.DEFINE_multi_string(
    'gin_file', ['quickstart.gin'], 'gin files of the experiment.'
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings',
    [
        *drill_run.SHORT_PHASES,
        'Online.num_episodes = 40',
        'Online.evaluation_interval = 15',
    ],
    'Changes to the experiment.',
)
_CUT_SECONDS = flags.DEFINE_float('cut_seconds', 10.0, 'Duration of the cut.')
_TIMEOUT_SECONDS = flags.DEFINE_float(
    'timeout_seconds', 1200.0, 'Time limit of the run.'
)

_HOSTS = {'parl_first': '10.213.7.1', 'parl_second': '10.213.7.2'}
_FIRST, _SECOND = _HOSTS
_NUM_COLLECTORS = 3
_RAY = f'{_HOSTS[_FIRST]}:6379'
_BIN = os.path.dirname(sys.executable)


def _ip(*arguments: str) -> None:
  subprocess.run(['ip', *arguments], check=True)


def _cable(state: str) -> None:
  _ip('-n', _FIRST, 'link', 'set', 'cable', state)


@contextlib.contextmanager
def hosts():
  """Creates two hosts connected by a cable, for the duration of the context."""
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
    stack.callback(_end_all)
    yield


def _end_all() -> None:
  for host in _HOSTS:
    for process in _processes(host):
      with contextlib.suppress(ProcessLookupError):  # It has just ended.
        os.kill(process, signal.SIGKILL)


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


def _collectors() -> Dict[str, Tuple[str, int]]:
  """Returns host and process of each collector, by number."""
  found = {}
  for host in _HOSTS:
    for process in _processes(host):
      with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        with open(f'/proc/{process}/cmdline', encoding='utf-8') as file:
          words = file.read().split('\0')
        if 'parl_tf.binaries.collect' in words:
          (number,) = [x for x in words if x.startswith('--collector=')]
          found[number] = (host, process)
  return dict(sorted(found.items()))


def run(root_dir: str) -> None:
  """Starts the cluster, launches the run and injects the failures."""
  # A separate disk of the second host is mounted over the directory.
  os.makedirs(root_dir)
  environment = {'RAY_AUTH_MODE': 'disabled', 'RAY_worker_niceness': '0'}
  ray = os.path.join(_BIN, 'ray')
  head = [
      ray, 'start', '--head', f'--node-ip-address={_HOSTS[_FIRST]}',
      '--port=6379', '--num-cpus=2', '--include-dashboard=false', '--block',
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
          f'--num_collectors={_NUM_COLLECTORS}',
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
  """Cuts the cable and kills the collectors, then waits for the run to end."""
  deadline = time.monotonic() + _TIMEOUT_SECONDS.value

  def wait(what, is_so):
    while not is_so():
      if time.monotonic() > deadline:
        raise TimeoutError(f'Timed out waiting until {what}.')
      time.sleep(0.5)

  def is_there():
    if launcher.poll() is not None:
      raise AssertionError(f'`parl-launch` ended with {launcher.returncode}.')
    return len(_collectors()) == _NUM_COLLECTORS

  wait('episodes arrive', lambda: is_there() and _num_episodes(log_dir) >= 12)
  before = _collectors()
  print(f'collectors (host, process): {before}', flush=True)
  if {host for host, _ in before.values()} != set(_HOSTS):
    raise AssertionError('Both hosts must have collectors.')
  _cable('down')
  time.sleep(_CUT_SECONDS.value)
  _cable('up')
  print(f'the cable was cut for {_CUT_SECONDS.value:.0f} s', flush=True)
  for _, process in before.values():
    os.kill(process, signal.SIGKILL)
  wait('the collectors return', lambda: is_there() and not _common(before))
  after = _collectors()
  print(f'killed all collectors; they returned at {after}', flush=True)
  if [x for x, _ in after.values()] != [x for x, _ in before.values()]:
    raise AssertionError('Each collector must return on its own host.')
  wait('the run ends', lambda: launcher.poll() is not None)
  if launcher.returncode:
    raise AssertionError(
        f'`parl-launch` must end with status 0, got {launcher.returncode}.'
    )
  print(f'ended with status 0; the log has {_num_episodes(log_dir)} episodes')


def _common(before) -> set:
  """Returns the processes that are still the same as before."""
  return {process for _, process in before.values()} & {
      process for _, process in _collectors().values()
  }


def _num_episodes(log_dir: str) -> int:
  if not os.path.isdir(log_dir):
    return 0
  return sum(name.endswith('.npz') for name in os.listdir(log_dir))


def main(argv):
  """Creates the hosts and runs the test."""
  del argv
  if os.geteuid() or not shutil.which('ip'):
    raise app.UsageError('This needs root and `ip` of iproute2.')
  logging.set_verbosity(logging.WARNING)
  # Treated as an interrupt, which also stops everything on the hosts.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  with hosts():
    run(os.path.abspath(_ROOT_DIR.value))


if __name__ == '__main__':
  app.run(main)
