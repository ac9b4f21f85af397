"""Tests that the commands of the pages run, one after the other, in a shell.

A page's commands run in an empty folder. The gin files of a run's sizes are
hidden there by files of the same names that include the real ones and then
reduce the sizes, and a page may need a few more changes: a short length, a
name of a machine, a server in the background.
"""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from typing import Dict, NamedTuple, Tuple

from absl.testing import absltest
from absl.testing import parameterized
import pytest

from parl_tf.distributed import launcher
from tests import pages
from tests.binaries import tiny

_ROOT = tiny.ROOT
_SECONDS = 1800.0
_SIZES = (
    tiny.GIN_FILE, 'sizes/small.gin', 'sizes/small_robot.gin',
    'sizes/real_robot.gin', 'sizes/calvin.gin',
)
_NOT_IMPORTED = ('PointMaze', 'Gaussian', 'exports')
# Commands of an installation, and those that need a display, another machine or
# hours; tests/benchmarks has tests of the studies.
_LEFT_OUT = (
    r'(make |source |pip |tensorboard |ray |python -m benchmarks|parl-doctor'
    r'|.*--video|.*--ray_address)'
)


class Page(NamedTuple):
  """How the commands of a page run in a test.

  Attributes:
    changes: Text that replaces a pattern in each line.
    bindings: Gin bindings that are added to each `parl-train`.
    before: A command that writes what the reader already has.
  """

  changes: Dict[str, str] = {}
  bindings: Tuple[str, ...] = ()
  before: str = ''


_SHORT = {
    r'num_episodes = \d+': 'num_episodes = 3',
    r'num_episodes 64': 'num_episodes 2',
    '30000': '600',
}
# A simulated arm moves in real time.
_AT_50_HZ = (
    'RobotEnvironment.control_rate = 50.0',
    'RobotEnvironment.max_missed_ticks = 1_000',
    'RobotEnvironment.max_observation_age = 20.0',
    'Robot.max_episode_steps = 8',
    'run_experiment.num_recorded_steps = 80',
    'run_experiment.num_evaluation_episodes = 2',
    'Online.num_episodes = 2',
    'Online.num_warm_up_episodes = 1',
)
_RECORD = 'parl-data generate pointmaze --output maze.hdf5 --num_steps 600'
_QUICKSTART = 'parl-train --root_dir runs/quickstart --gin_file quickstart.gin'
_REACH = (
    'parl-train --root_dir runs/reach --gin_file methods/parl_cal_ql.gin'
    ' --gin_file policies/diffusion.gin --gin_file sizes/small.gin'
    ' --gin_file reach.gin'
)
_SAVE = """python -c '
from tests import pages
for page in ("README.md", "docs/your_data.md"):
  pages.save_files(page, ".")
'"""
_DEMONSTRATE = """python -c '
import h5py, numpy as np
with h5py.File("examples/robot/demonstrations.hdf5", "w") as file:
  file["observations"] = np.linspace([0, 0], [0.3, 0.2], 300, dtype="f4")
  file["actions"] = np.linspace([-0.25], [0.25], 300, dtype="f4")
  file["rewards"] = np.float32(np.arange(300) % 10 == 9)
  file["terminals"] = np.arange(300) % 10 == 9
  file["timeouts"] = np.zeros(300, bool)
'"""
_PLAY_DOOR = """python -c '
import gymnasium, gymnasium_robotics, h5py, numpy as np
task = gymnasium.make("AdroitHandDoorSparse-v1")
rows = {x: [] for x in ("observations", "actions", "rewards", "timeouts")}
task.action_space.seed(0)
for episode in range(3):
  observation, _ = task.reset(seed=episode)
  for step in range(100):
    action = task.action_space.sample()
    after, reward, *_ = task.step(action)
    values = observation, action, reward, step == 99
    for column, value in zip(rows.values(), values):
      column.append(value)
    observation = after
with h5py.File("door.hdf5", "w") as file:
  for name, column in rows.items():
    file[name] = np.array(column)
  file["terminals"] = np.zeros(300, bool)
'"""
# Both examples need packages and models that only their repositories have.
# Environments with the same specs and without physics replace them; what
# installs and checks the real ones is left out.
_STAND_INS = {
    r'^(git|export|\S*python\S* -m venv|theirs/bin/pip|libero_venv/bin/pip) .*':
        ':',
    r'^.*(check|benchmarks/calvin)\.py.*': ':',
    r'^.*server\.py\s+--module calvin_environment .*': (
        'python examples/remote_environment/server.py'
        ' --module tests.domains.calvin_table --environment Calvin-v0'
        ' --port 8001 &'
    ),
    r'^.*server\.py\s+--module libero_environment .*': (
        'python examples/remote_environment/server.py'
        ' --module tests.domains.libero_like --environment LiberoLike-v0'
        ' --port 8001 &'
    ),
}
_RECORD_STATES = """python -c '
import sys, h5py, numpy as np
random = np.random.default_rng(0)
with h5py.File(sys.argv[1], "w") as file:
  for part in sys.argv[2:]:
    name, size = part.split("=")
    file["observations/" + name] = random.normal(size=(60, int(size)))
  file["actions"] = random.uniform(-1, 1, [60, 7])
  file["rewards"] = np.float32(np.arange(60) % 20 == 19)
  file["terminals"] = np.zeros(60, bool)
  file["timeouts"] = np.arange(60) % 20 == 19
' """
# The service, the learner and a collector run beside each other.
_BY_HAND = {
    r'/data/maze\.hdf5': 'maze.hdf5',
    r'\b(A|workstation):': 'localhost:',
    r' --public': '',
    r'^(parl-reverb-server --root_dir .*)': r'\1 &',
    r'^(parl-reverb-server --check .*)': r'until \1; do sleep 1; done',
    r'^(parl-learn .*)': r'\1 & learner=$!',
    r'^(parl-collect .*)': r'\1 & collector=$!',
}
_PAGES = {
    'README.md': Page({'^make quickstart': _QUICKSTART}),
    'docs/add_a_critic.md': Page(before=_SAVE),
    'docs/add_a_policy.md': Page(before=_SAVE),
    'docs/data.md': Page(
        {'minari_data': 'maze.hdf5', '100000': '600'},
        before=(
            f'{_RECORD}; cp maze.hdf5 demo.hdf5;'
            ' cp maze.hdf5 demonstrations.hdf5'
        ),
    ),
    'docs/deploy.md': Page(before=f'{_SAVE}; {_REACH}'),
    'docs/distributed.md': Page(
        {**_BY_HAND, '^(parl-evaluate .*)': r'\1; wait $learner $collector'},
        before=_RECORD,
    ),
    'docs/first_run.md': Page(_SHORT),
    'docs/fleet.md': Page(
        {
            **_BY_HAND,
            **_SHORT,
            '^(parl-launch .*)': r'\1 & launcher=$!',
            'parl_tf.binaries.collect': 'binaries.collect.*$PWD',
            '^(kill .*)': r'until \1; do sleep 1; done; wait $launcher',
            '^(parl-report .*)': r'wait $learner $collector; \1',
        },
        before=_RECORD,
    ),
    'docs/methods.md': Page(
        bindings=('num_backup_actions = 2',),
        before=_QUICKSTART
    ),
    'docs/tasks.md': Page(before=_PLAY_DOOR),
    'docs/your_data.md': Page(
        {**_SHORT, '^(parl-data convert)': r'cp maze.hdf5 more.hdf5; \1'}
    ),
    'docs/your_policy.md': Page(
        {
            **_SHORT,
            r'^(python .*\.hdf5) &': r'\1 8000 &',
            '^(parl-train .*/served.gin)': (
                "\\1 --gin_bindings 'RemotePolicy.address = \"127.0.0.1:8000\"'"
            ),
            '^(parl-serve .*)': r'\1 &',
            # `torch_policy_test` runs the server, which needs PyTorch.
            r'^.*\b(serve\.py|reach_served).*': ':',
        },
        before=_QUICKSTART,
    ),
    'docs/your_robot.md': Page(bindings=_AT_50_HZ, before=_DEMONSTRATE),
    'docs/your_task.md': Page(
        {**_SHORT, 'num_steps 10000': 'num_steps 300'},
        before=f'{_SAVE}; python record.py',
    ),
    'examples/calvin/README.md': Page(
        _STAND_INS,
        (
            'Calvin.address = "127.0.0.1:8001"',
            'Calvin.max_episode_steps = 10',
            # Of the second run, whose file has sizes of its own.
            'run_experiment.num_recorded_steps = 80',
            'run_experiment.num_evaluation_episodes = 2',
            'BehaviorCloning.num_steps = 2',
            'Offline.num_steps = 2',
            'Offline.interval = 1',
            'Offline.evaluation_interval = 2',
            'Online.num_episodes = 1',
        ),
        before=f'{_RECORD_STATES} calvin.hdf5 robot=15 scene=24',
    ),
    'examples/libero/README.md': Page(
        _STAND_INS,
        (
            'Libero.address = "127.0.0.1:8001"',
            'Libero.max_episode_steps = 10',
            # The command has no file of sizes.
            *(x for x in tiny.BINDINGS if not x.startswith(_NOT_IMPORTED)),
        ),
        before=(
            f'{_RECORD_STATES} data.hdf5 joint_states=7 ee_states=6'
            ' gripper_states=2 physics=46'
        ),
    ),
}
# Pages whose commands other tests run.
_ELSEWHERE = {
    'docs/installation.md': 'tests/installation_test.py',
    'examples/c_program/README.md': 'tests/benchmarks/c_program_test.py',
    'examples/jax_policy/README.md': 'tests/examples/jax_policy_test.py',
    'examples/torch_policy/README.md': 'tests/examples/torch_policy_test.py',
    'examples/lerobot_policy/README.md':
        'tests/examples/lerobot_policy_test.py',
    'examples/openvla_policy/README.md':
        'tests/examples/openvla_policy_test.py',
    'examples/remote_environment/README.md':
        'tests/domains/remote_test.py',
    'examples/robot/README.md': 'tests/examples/robot_test.py',
    'docs/commands.md': 'tests/site_test.py',
    'docs/parameters.md': 'tests/site_test.py',
    'benchmarks/results/README.md': 'tests/benchmarks/tables_test.py',
}

class PagesTest(absltest.TestCase):

  def test_each_page_with_commands_has_a_test_or_a_reason(self):
    found = [
        path.relative_to(_ROOT).as_posix()
        for pattern in ('*.md', 'docs/*.md', '*/*/*.md')
        for path in _ROOT.glob(pattern)
        if not path.is_relative_to(_ROOT / 'build')
    ]
    with_commands = {page for page in found if any(pages.lines(page))}

    self.assertEqual(with_commands, {*_PAGES, *_ELSEWHERE})
    for test in _ELSEWHERE.values():
      self.assertTrue((_ROOT / test).exists(), test)


@pytest.mark.full
class TutorialsTest(parameterized.TestCase):

  @parameterized.parameters(*_PAGES)
  def test_commands_run(self, page):
    folder = pathlib.Path(self.create_tempdir().full_path)
    self._copy_examples(folder)
    for directory in {folder, *folder.glob('examples/robot')}:
      self._hide_sizes(directory)
    # A tutorial's reader saves its files in the directory that it changes to.
    changed = [x[1] for x in pages.commands(page) if x[0] == 'cd']
    pages.save_files(page, str(folder / (changed or ['.'])[-1]))
    self._run(self._script(page), folder)

  def _script(self, page) -> str:
    changes, bindings, before = _PAGES[page]
    bound = ''.join(f' --gin_bindings {shlex.quote(x)}' for x in bindings)
    port = _free_ports()
    lines = [before]
    for line in pages.lines(page):
      line = line.partition('  #')[0].rstrip()
      if re.match(_LEFT_OUT, line):
        continue
      line = re.sub('^parl-train.*', lambda match: match[0] + bound, line)
      for pattern, text in changes.items():
        line = re.sub(pattern, text, line)
      line = re.sub(
          r'\b[89]00(\d)\b', lambda match: str(port + int(match[1])), line
      )
      lines.append(line)
    return '\n'.join(lines)

  def _copy_examples(self, folder):
    for path in (_ROOT / 'examples').glob('*/*.*'):
      if path.suffix in ('.gin', '.py'):
        copy = folder / path.relative_to(_ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)

  def _hide_sizes(self, folder):
    (folder / 'sizes').mkdir()
    small = (_ROOT / 'gin/sizes/small.gin').read_text()
    imports = re.findall('(?m)^import .*', small)
    imports += ['import parl_tf.domains.pointmaze']
    imports += ['import parl_tf.training.export']
    for name in _SIZES:
      real = _ROOT / 'gin' / name
      lines = [*imports, f"include '{real}'", *tiny.BINDINGS, '']
      (folder / name).write_text('\n'.join(lines))

  def _run(self, script, folder):
    """Runs a script of the shell, and ends what it leaves running."""
    log = folder / 'log.txt'
    with open(log, 'w') as file:
      process = subprocess.Popen(
          ['bash', '-euxo', 'pipefail', '-c', script],
          cwd=folder,
          env={
              **os.environ,
              'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}',
              'PYTHONPATH': str(_ROOT),
          },
          stdout=file,
          stderr=subprocess.STDOUT,
          start_new_session=True,
      )
      try:
        status = process.wait(_SECONDS)
      finally:
        with contextlib.suppress(ProcessLookupError):  # All have ended.
          os.killpg(process.pid, signal.SIGKILL)
    self.assertEqual(status, 0, log.read_text()[-5000:])


def _free_ports() -> int:
  """Returns the first of ten ports that are free, as far as can be known."""
  while True:
    first = launcher.free_port() // 10 * 10
    try:
      for port in range(first, first + 10):
        socket.create_server(('localhost', port)).close()
      return first
    except OSError:
      continue


if __name__ == '__main__':
  absltest.main()
