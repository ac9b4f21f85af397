"""The checks of `parl-doctor`.

Packages are imported in processes of their own, because a package that was
built for another version of its dependencies may end its process.
"""

from concurrent import futures
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Dict, Iterator, List, NamedTuple, Tuple

from parl_tf.binaries import doctor_versions

OK, NOTE, PROBLEM = 'OK', 'NOTE', 'PROBLEM'

_MEBIBYTE = 2**20
_IMPORT_SECONDS = 300.0
_MIN_DISK_MIB, _MIN_MEMORY_MIB = 5_000, 4_000
_MIN_MIB_PER_SECOND = 20.0
_WRITTEN_MIB = 32
_PORT = 8000  # The default of `parl-serve`.
_RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco/>')
mujoco.mj_step(model, mujoco.MjData(model))
{render}
"""
_GPUS = """
import tensorflow as tf
print(len(tf.config.list_physical_devices('GPU')), tf.test.is_built_with_cuda())
"""


# Reports an error as the last line, before destructors print theirs.
_GUARD = """
import os, sys
try:
  exec({program!r}, {{}})
except BaseException as error:
  sys.stderr.write(f'\\n{{type(error).__name__}}: {{error}}\\n')
  sys.stderr.flush()
  os._exit(1)
"""


class Finding(NamedTuple):
  """The result of a check.

  Attributes:
    name: What was checked.
    status: OK, NOTE or PROBLEM.
    found: What was found.
    fix: What to do about it; empty if OK.
  """

  name: str
  status: str
  found: str
  fix: str = ''


def examine(root_dir: str) -> List[Finding]:
  """Runs all checks, those that import packages at the same time.

  Args:
    root_dir: Directory for runs; it may be missing.
  """
  with futures.ThreadPoolExecutor() as executor:
    slow = [
        executor.submit(check)
        for check in (_tensorflow, _reverb, _mujoco, _ray)
    ]
    fast = [*_versions(), _processor(), *_disk(root_dir), _memory(), _ports()]
    found = [finding for future in slow for finding in future.result()]
  return [*fast, *found]


def describe(finding: Finding) -> str:
  """Returns one line."""
  text = finding.found
  if finding.fix:
    end = '' if text.endswith(('?', '!')) else '.'
    text = f'{text.rstrip(".")}{end} Fix: {finding.fix}'
  return f'{finding.status:8}{finding.name:18}{text}'


def _versions() -> Iterator[Finding]:
  python = '.'.join(map(str, sys.version_info[:3]))
  if (3, 10) <= sys.version_info < (3, 13):
    yield Finding('python', OK, python)
  else:
    yield Finding(
        'python', PROBLEM, python, 'use Python 3.10, 3.11 or 3.12.'
    )
  try:
    path, pinned = doctor_versions.read_pins()
  except FileNotFoundError as error:
    yield Finding(
        'versions', NOTE, f'{error}', 'install parl_tf again to compare them.'
    )
    return
  others = doctor_versions.differences(pinned)
  name = os.path.basename(path)
  if others:
    for package, (seen, wanted) in others.items():
      yield Finding(
          'versions',
          PROBLEM,
          f'{package} {seen or "is missing"}, tested with {wanted}.',
          f'pip install -c {path} "{package}=={wanted}"',
      )
  else:
    yield Finding('versions', OK, f'as in {name}')


def processor_finding(cpu_flags: str, num_cores: int) -> Finding:
  """Describes a processor.

  Args:
    cpu_flags: Names of its instruction sets.
    num_cores: Number of cores that this process may use.
  """
  names = cpu_flags.split()
  seen = [
      title
      for title, flag in (
          ('AVX2', 'avx2'),
          ('AVX-512', 'avx512f'),
          ('AVX-512 bfloat16', 'avx512_bf16'),
          ('AMX bfloat16', 'amx_bf16'),
      )
      if flag in names
  ]
  found = f'{num_cores} cores, {", ".join(seen) or "neither AVX2 nor AVX-512"}'
  if 'amx_bf16' in names or 'avx512_bf16' in names:
    return Finding(
        'processor',
        OK,
        f'{found}; with large networks, compare Search.precision = "bfloat16"'
        ' with float32',
    )
  return Finding('processor', OK, f'{found}; float32 is fastest')


def _processor() -> Finding:
  cpu_flags = ''
  if os.path.exists('/proc/cpuinfo'):
    with open('/proc/cpuinfo', encoding='utf-8') as file:
      lines = [line for line in file if line.startswith('flags')]
    cpu_flags = lines[0] if lines else ''
  return processor_finding(cpu_flags, len(os.sched_getaffinity(0)))


def _tensorflow() -> List[Finding]:
  status, output, reason = _python(_GPUS)
  if status:
    return [Finding('tensorflow', PROBLEM, reason, doctor_versions.REINSTALL)]
  num_gpus, has_cuda = output.split()[-2:]
  driver = shutil.which('nvidia-smi') or os.path.exists('/proc/driver/nvidia')
  if int(num_gpus):
    gpu = Finding('gpu', OK, f'{num_gpus}')
  elif not driver:
    gpu = Finding(
        'gpu', OK, 'none, and no NVIDIA driver; runs use the processor'
    )
  elif has_cuda == 'False':
    gpu = Finding(
        'gpu', PROBLEM, 'TensorFlow was built without CUDA.',
        doctor_versions.REINSTALL,
    )
  else:
    gpu = Finding(
        'gpu', PROBLEM, 'there is a driver, but TensorFlow sees no GPU: its'
        ' CUDA libraries are missing, or CUDA_VISIBLE_DEVICES hides it'
        f' ({os.environ.get("CUDA_VISIBLE_DEVICES", "unset")}).',
        'pip install "tensorflow[and-cuda]" in the pinned version.',
    )
  return [Finding('tensorflow', OK, 'can be imported'), gpu]


def _reverb() -> List[Finding]:
  status, _, reason = _python('import tensorflow, reverb')
  if not status:
    return [Finding('reverb', OK, 'fits TensorFlow')]
  without = 'run without replay tables: parl-train does not need them.'
  if sys.version_info >= (3, 12):
    return [
        Finding(
            'reverb',
            NOTE,
            'has no version for Python 3.12',
            f'use Python 3.10 or 3.11, or {without}',
        )
    ]
  return [
      Finding(
          'reverb',
          PROBLEM,
          reason,
          'pip install -c constraints.txt dm-reverb tensorflow, or ' + without,
      )
  ]


def _mujoco() -> List[Finding]:
  status, _, reason = _python(_RENDER.format(render=''), MUJOCO_GL='disable')
  if status:
    return [Finding('mujoco', PROBLEM, reason, doctor_versions.REINSTALL)]
  physics = Finding('mujoco', OK, 'steps')
  render = _RENDER.format(render='mujoco.Renderer(model, 8, 8).render()')
  chosen = os.environ.get('MUJOCO_GL', '')
  status, _, reason = _python(render)
  if not status:
    return [physics, Finding('gl', OK, f'{_gl(chosen)} renders')]
  for backend in ('egl', 'osmesa'):
    if backend != chosen and not _python(render, MUJOCO_GL=backend)[0]:
      return [physics, Finding(
          'gl', NOTE, f'{_gl(chosen)} cannot render images or videos.',
          f'export MUJOCO_GL={backend}',
      )]
  return [physics, Finding(
      'gl', PROBLEM, f'no images and videos: {reason}',
      'install PyOpenGL, libegl1 (or libosmesa6), and export MUJOCO_GL=egl (or'
      ' osmesa).',
  )]


def _gl(chosen: str) -> str:
  default = 'the default backend (MUJOCO_GL is not set)'
  return f'MUJOCO_GL={chosen}' if chosen else default


def _ray() -> List[Finding]:
  status, _, reason = _python('import ray')
  if not status:
    return [Finding('ray', OK, 'can be imported')]
  return [Finding(
      'ray', NOTE, reason, 'for parl-launch: pip install "parl_tf[ray]"'
  )]


def _disk(root_dir: str) -> Iterator[Finding]:
  place = os.path.abspath(root_dir)
  while not os.path.lexists(place):
    place = os.path.dirname(place)
  if not os.path.isdir(place):
    yield Finding(
        'disk', PROBLEM, f'{place} is no directory',
        'choose another --root_dir.'
    )
    return
  free = shutil.disk_usage(place).free // _MEBIBYTE
  yield Finding(
      'disk',
      OK if free >= _MIN_DISK_MIB else PROBLEM,
      f'{free:,} MiB free in {place}',
      '' if free >= _MIN_DISK_MIB else
      f'free {_MIN_DISK_MIB:,} MiB, or choose another --root_dir.',
  )
  try:
    speed = _write_speed(place)
  except OSError as error:
    yield Finding(
        'write speed', PROBLEM, f'{place}: {error.strerror}',
        'choose a --root_dir that can be written.',
    )
    return
  is_fast = speed >= _MIN_MIB_PER_SECOND
  yield Finding(
      'write speed',
      OK if is_fast else PROBLEM,
      f'{speed:.0f} MiB/s, synced, in {place}',
      '' if is_fast else 'put runs on a local disk.',
  )


def _write_speed(folder: str) -> float:
  """Returns MiB per second of a synced write."""
  content = os.urandom(_MEBIBYTE)
  with tempfile.TemporaryFile(dir=folder) as file:
    started = time.monotonic()
    for _ in range(_WRITTEN_MIB):
      file.write(content)
    file.flush()
    os.fsync(file.fileno())
    return _WRITTEN_MIB / (time.monotonic() - started)


def _memory() -> Finding:
  with open('/proc/meminfo', encoding='utf-8') as file:
    values: Dict[str, str] = dict(line.split(':', 1) for line in file)
  free = int(values['MemAvailable'].split()[0]) // 1024
  is_enough = free >= _MIN_MEMORY_MIB
  return Finding(
      'memory',
      OK if is_enough else PROBLEM,
      f'{free:,} MiB available',
      '' if is_enough else f'end other programs; a run needs about'
      f' {_MIN_MEMORY_MIB:,} MiB.',
  )


def _ports() -> Finding:
  try:
    with socket.create_server(('127.0.0.1', 0)):
      pass
  except OSError as error:
    return Finding(
        'ports', PROBLEM, f'127.0.0.1: {error}',
        'allow connections on loopback; runs of several processes need them.',
    )
  try:
    with socket.create_server(('127.0.0.1', _PORT)):
      return Finding('ports', OK, f'loopback works, {_PORT} is free')
  except OSError:
    return Finding(
        'ports', NOTE, f'{_PORT} is in use', 'give parl-serve another --port.'
    )


def _python(program: str, **variables: str) -> Tuple[int, str, str]:
  """Runs a program; returns status, output and the reason of a failure."""
  try:
    done = subprocess.run(
        [sys.executable, '-c', _GUARD.format(program=program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_IMPORT_SECONDS,
        env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', **variables},
    )
  except subprocess.TimeoutExpired:
    return 1, '', f'no answer within {_IMPORT_SECONDS:.0f} s'
  lines = [line for line in done.stderr.splitlines() if line.strip()]
  reason = (lines or ['no message'])[-1].partition(',')[0]
  if done.returncode < 0:
    reason = f'ended by {signal.Signals(-done.returncode).name}: {reason}'
  return done.returncode, done.stdout, reason
