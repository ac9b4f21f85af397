"""Launches all roles of a distributed run, on this machine or on Ray."""

import os
import random
import signal
import socket
import sys
import time
from typing import List

from absl import logging
import ray

from parl_tf.distributed import progress_view
from parl_tf.distributed import ray_session
from parl_tf.distributed import supervisor as supervisor_lib
from parl_tf.domains import domain as domain_lib

_STEP_SECONDS = 0.5
_VIEW_SECONDS = 10.0
# Time for the other roles to end after the learner.
_LAST_SECONDS = 600.0
_LAST_EVALUATION_SECONDS = 3600.0  # Episodes may be slow.
_PORTS = range(20_000, 30_000)
# TensorFlow reserves all memory of every GPU that it sees.
_WITHOUT_GPU = {'CUDA_VISIBLE_DEVICES': '-1'}


def make_roles(options, address: str) -> List[supervisor_lib.Role]:
  """Returns the roles of a run.

  Args:
    options: The flags.
    address: `host:port` of the replay service.
  """
  root_dir = os.path.abspath(options.root_dir)
  seed = f'--seed={options.seed}'
  files = [os.path.abspath(x) if os.path.exists(x) else x
           for x in options.gin_file]

  def command(module, *arguments):
    return [
        sys.executable,
        '-m',
        module,
        *(f'--gin_file={x}' for x in (*files, 'distributed.gin')),
        *(f'--gin_bindings={x}' for x in options.gin_bindings),
        *arguments,
    ]

  service = command(
      'reverb_server.server',
      f'--root_dir={root_dir}',
      f'--port={address.rpartition(":")[2]}',
      *(['--public'] if options.ray_address else []),
  )
  learner = command(
      'parl_tf.binaries.learn',
      f'--root_dir={root_dir}',
      f'--replay={address}',
      f'--strategy={options.strategy}',
      seed,
  )
  roles = [
      # Restarted even after exit status 0, because all roles need the service.
      supervisor_lib.Role(
          'service',
          service,
          is_here=True,
          may_end=False,
          environment=_WITHOUT_GPU,
      ),
      supervisor_lib.Role(
          'learner', learner, num_gpus=options.learner_gpus, is_here=True
      ),
  ]
  for i in range(options.num_collectors):
    collect = command(
        'parl_tf.binaries.collect',
        f'--root_dir={root_dir}',
        f'--replay={address}',
        f'--collector={i}',
        seed,
    )
    roles.append(
        supervisor_lib.Role(
            f'collector_{i}',
            collect,
            num_cpus=options.collector_cpus,
            num_gpus=options.collector_gpus,
            environment={} if options.collector_gpus else _WITHOUT_GPU,
        )
    )
  if options.num_evaluation_episodes:
    evaluate = command(
        'parl_tf.binaries.evaluate',
        f'--root_dir={os.path.join(root_dir, "evaluator")}',
        f'--follow={address}',
        f'--num_episodes={options.num_evaluation_episodes}',
        seed,
    )
    roles.append(
        supervisor_lib.Role(
            'evaluator', evaluate, is_here=True, environment=_WITHOUT_GPU
        )
    )
  return roles


def launch(options) -> int:
  """Runs all roles until the learner has finished.

  Returns:
    The exit status: 0, or 130 if the run was interrupted.

  Raises:
    ValueError: If a role fails each time it is started.
  """
  ray_session.start(options.ray_address)
  # A terminal sends SIGINT, and SIGHUP when it closes, a job scheduler SIGTERM.
  # Replaces the handlers of Ray, which abort the process.
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is not signal.SIG_IGN:  # As `nohup` has it.
      signal.signal(number, signal.default_int_handler)
  host = ray.util.get_node_ip_address() if options.ray_address else 'localhost'
  address = f'{host}:{options.port or free_port()}'
  warn_of_spools(options.root_dir, options.num_collectors)
  roles = make_roles(options, address)
  supervisor = supervisor_lib.Supervisor(
      roles,
      os.path.join(options.root_dir, 'logs'),
      # Ray gives its workers one thread; their child processes would inherit
      # that limit.
      {
          'OMP_NUM_THREADS': os.environ.get(
              'OMP_NUM_THREADS', str(os.cpu_count())
          ),
          'TF_FORCE_GPU_ALLOW_GROWTH': 'true',
          domain_lib.LAUNCHED: '1',
      },
  )
  view = progress_view.ProgressView(address)
  workers = [role.name for role in roles if role.name != 'service']
  shown_at = time.monotonic()
  ended_at = None  # When the learner did.
  status = 0
  try:
    while not all(supervisor.has_ended(name) for name in workers):
      supervisor.step()
      if supervisor.has_ended('learner'):
        # A service that restarted at that moment no longer has the signal that
        # ends the other roles.
        ended_at = ended_at or time.monotonic()
        running = [x for x in workers if not supervisor.has_ended(x)]
        is_evaluating = 'evaluator' in running
        limit = _LAST_EVALUATION_SECONDS if is_evaluating else _LAST_SECONDS
        if time.monotonic() - ended_at > limit:
          logging.warning(
              'Stopping the roles that still run %g min after the learner: %s.',
              limit / 60.0,
              ', '.join(running),
          )
          break
      if time.monotonic() - shown_at >= _VIEW_SECONDS:
        shown_at = time.monotonic()
        logging.info('%s', view.line(supervisor.num_restarts()))
      time.sleep(_STEP_SECONDS)
  except KeyboardInterrupt:
    logging.info('Stopping; the same command resumes.')
    status = 130
  finally:
    for role in reversed(roles):
      supervisor.stop(role.name)
    ray.shutdown()
  return status


def warn_of_spools(root_dir: str, num_collectors: int) -> None:
  """Warns of collectors of before whose episodes no process will send.

  Args:
    root_dir: Directory of the run.
    num_collectors: Number of collectors now.
  """
  directory = os.path.join(root_dir, 'spool')
  names = os.listdir(directory) if os.path.isdir(directory) else []
  unused = sorted(int(x) for x in names if x.isdigit())
  unused = [x for x in unused if x >= num_collectors]
  if unused:
    logging.warning(
        '%s has spools of more collectors than %d: %s. Episodes that they have'
        ' not sent enter the log only if as many collectors run again.',
        directory,
        num_collectors,
        unused,
    )


def free_port() -> int:
  """Returns a port that a restarted service can bind again.

  Raises:
    OSError: If a hundred ports are in use.
  """
  # Avoids the system's ephemeral ports. While the service restarts, an outgoing
  # connection could take such a port, even that of a role that tries to reach
  # the service, which would then connect to itself.
  for port in random.SystemRandom().sample(_PORTS, 100):
    try:
      with socket.create_server(('localhost', port)):
        return port
    except OSError:
      continue
  raise OSError(f'None of 100 ports in {_PORTS} is free: set --port.')
