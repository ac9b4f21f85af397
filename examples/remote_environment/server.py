"""Serves any gymnasium environment over dm_env_rpc, in its own Python.

  pip install dm-env-rpc gymnasium            # and the task's packages
  python server.py --environment Pendulum-v1 --port 50051

This file does not depend on parl_tf. Each connection that creates a world gets
a separate environment; with --max_worlds 1, as for a robot, the next one waits
until the environment before is closed. The settings of a world are keyword
arguments of `gymnasium.make`. The setting `seed` of a reset seeds the
environment.

If the environment has a method `stop_robot`, it is called at the end of each
episode, which the client may end at any step, and before each reset.

A step takes the action `action` and returns `observation` (or
`observation/<key>` for each part), `reward` and `success`, the entry `success`
or `is_success` of `info`, or the one that --success_key names. TERMINATED marks
a terminal step, INTERRUPTED a timeout.
"""

import argparse
import concurrent.futures
import importlib
import itertools
import signal
import sys
import threading

from dm_env import specs
from dm_env_rpc.v1 import dm_env_rpc_pb2 as rpc
from dm_env_rpc.v1 import dm_env_rpc_pb2_grpc
from dm_env_rpc.v1 import dm_env_utils
from dm_env_rpc.v1 import spec_manager
from dm_env_rpc.v1 import tensor_utils
from google.rpc import code_pb2
from google.rpc import status_pb2
import grpc
import gymnasium
import numpy as np

SUCCESS_KEYS = ('success', 'is_success')
MAX_WORLDS = 4_096


class World:
  """An environment and its current step."""

  def __init__(self, make, settings, success_keys):
    """Creates the environment."""
    self._success_keys = success_keys
    self._environment = make(**settings)
    action = self._environment.action_space
    self._actions = spec_manager.SpecManager({
        1: dm_env_utils.dm_env_spec_to_tensor_spec(
            specs.BoundedArray(
                action.shape, action.dtype, action.low, action.high, 'action'
            )
        )
    })
    names = {'reward': ((), np.float64), 'success': ((), np.bool_)}
    for name, space in _parts(self._environment.observation_space):
      names[name] = (space.shape, space.dtype)
    self._observations = spec_manager.SpecManager({
        uid: dm_env_utils.dm_env_spec_to_tensor_spec(
            specs.Array(shape, dtype, name)
        )
        for uid, (name, (shape, dtype)) in enumerate(names.items(), start=1)
    })
    self._is_running = False
    self._seed = None
    self._reports_success = False

  @property
  def specs(self):
    """Returns the message with the specs of actions and observations."""
    return rpc.ActionObservationSpecs(
        actions=self._actions.specs_by_uid,
        observations=self._observations.specs_by_uid,
    )

  def reset(self, settings):
    """Ends the episode: the next step is the first one of another."""
    self._is_running = False
    self._seed = settings.get('seed')
    stop_robot = getattr(self._environment.unwrapped, 'stop_robot', None)
    if stop_robot is not None:
      stop_robot()

  def step(self, request):
    """Takes a step, or starts an episode."""
    reward, state, info = 0.0, rpc.EnvironmentStateType.RUNNING, {}
    if not self._is_running:
      seed = None if self._seed is None else int(self._seed)
      observation, info = self._environment.reset(seed=seed)
      self._seed, self._is_running = None, True
    else:
      action = self._actions.unpack(request.actions)['action']
      observation, reward, terminated, truncated, info = (
          self._environment.step(action)
      )
      if terminated:
        state = rpc.EnvironmentStateType.TERMINATED
      elif truncated:
        state = rpc.EnvironmentStateType.INTERRUPTED
      self._is_running = not (terminated or truncated)
    self._check_success(info)
    values = {
        'reward': np.float64(reward),
        'success': np.bool_(
            any(info.get(key, False) for key in self._success_keys)
        ),
        **dict(_parts(observation)),
    }
    packed = self._observations.pack(values)
    return rpc.StepResponse(
        state=state,
        observations={
            uid: packed[uid] for uid in request.requested_observations
        },
    )

  def _check_success(self, info):
    """Warns after the first episode if `info` never had the entry."""
    if self._reports_success:
      return
    self._reports_success = any(key in info for key in self._success_keys)
    if not (self._is_running or self._reports_success):
      self._reports_success = True  # One warning is enough.
      sys.stderr.write(
          f'No episode can succeed: `info` had no entry {self._success_keys},'
          f' only {sorted(info)} at its end. Give --success_key.\n'
      )

  def close(self):
    """Closes the environment."""
    self._environment.close()


class Servicer(dm_env_rpc_pb2_grpc.EnvironmentServicer):
  """Worlds by name; each connection joins one at a time."""

  def __init__(self, make, success_keys, max_worlds):
    """Initializes the servicer; see `serve`."""
    self._make = make
    self._success_keys = success_keys
    self._free = threading.Semaphore(max_worlds)
    self._worlds = {}
    self._numbers = itertools.count()

  def Process(self, request_iterator, context):  # pylint: disable=invalid-name
    """Answers the requests of one connection in order."""
    own, joined = [], None
    try:
      for request in request_iterator:
        kind = request.WhichOneof('payload')
        message = getattr(request, kind)
        try:
          if kind == 'create_world':
            if not self._wait_for_a_free_world(context):
              return
            name = f'world_{next(self._numbers)}'
            try:
              self._worlds[name] = World(
                  self._make, _unpack(message.settings), self._success_keys
              )
            except BaseException:
              self._free.release()
              raise
            own.append(name)
            response = rpc.CreateWorldResponse(world_name=name)
          elif kind == 'join_world':
            joined = self._worlds[message.world_name]
            response = rpc.JoinWorldResponse(specs=joined.specs)
          elif kind == 'reset':
            joined.reset(_unpack(message.settings))
            response = rpc.ResetResponse(specs=joined.specs)
          elif kind == 'step':
            response = joined.step(message)
          elif kind == 'leave_world':
            joined, response = None, rpc.LeaveWorldResponse()
          elif kind == 'destroy_world':
            own.remove(message.world_name)
            self._close(message.world_name)
            response = rpc.DestroyWorldResponse()
          else:
            raise ValueError(f'{kind} is not served here.')
        except Exception as error:  # noqa: BLE001
          # Report the error to the client; the server keeps running.
          yield rpc.EnvironmentResponse(
              error=status_pb2.Status(
                  code=code_pb2.INTERNAL,
                  message=f'{type(error).__name__}: {error}',
              )
          )
          continue
        yield rpc.EnvironmentResponse(**{kind: response})
    finally:
      for name in own:
        self._close(name)

  def _wait_for_a_free_world(self, context) -> bool:
    """Returns False if the client disconnects first."""
    while not self._free.acquire(timeout=0.5):
      if not context.is_active():
        return False
    if not context.is_active():
      self._free.release()
      return False
    return True

  def _close(self, name):
    try:
      self._worlds.pop(name).close()
    finally:
      self._free.release()


def _parts(space_or_observation, name='observation'):
  """Yields the parts of a nest of spaces or arrays with their names."""
  parts = getattr(space_or_observation, 'spaces', space_or_observation)
  if isinstance(parts, dict):
    for key, part in parts.items():
      yield from _parts(part, f'{name}/{key}')
  elif isinstance(parts, np.ndarray) or hasattr(parts, 'shape'):
    yield name, parts
  else:
    yield name, np.asarray(parts)


def _unpack(settings):
  return {
      name: np.asarray(tensor_utils.unpack_tensor(tensor)).tolist()
      for name, tensor in settings.items()
  }


def serve(
    make, address: str, success_keys=SUCCESS_KEYS, max_worlds=MAX_WORLDS
) -> grpc.Server:
  """Starts a server.

  Args:
    make: Makes a `gymnasium.Env` from the settings of a world.
    address: `host:port`.
    success_keys: Entries of `info`; success if any of them is true.
    max_worlds: Number of environments at a time; a client waits for the next.

  Returns:
    The running server.
  """
  server = grpc.server(
      # Each environment holds a thread as long as it is connected. Threads
      # start when they are needed.
      concurrent.futures.ThreadPoolExecutor(max_workers=MAX_WORLDS),
      options=[
          ('grpc.max_send_message_length', -1),
          ('grpc.max_receive_message_length', -1),
          # If the network breaks, the environment is closed within 20 s.
          ('grpc.keepalive_time_ms', 10_000),
          ('grpc.keepalive_timeout_ms', 10_000),
          ('grpc.http2.ping_timeout_ms', 10_000),  # 60 s by default
      ],
  )
  dm_env_rpc_pb2_grpc.add_EnvironmentServicer_to_server(
      Servicer(make, success_keys, max_worlds), server
  )
  if not server.add_insecure_port(address):
    raise OSError(f'Cannot bind to {address}.')
  server.start()
  return server


def main():
  """Serves until interrupted."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--environment', required=True, help='gymnasium id')
  parser.add_argument(
      '--module', action='append', default=[],
      help='module to import first, which registers environments',
  )
  parser.add_argument(
      '--success_key', action='append',
      help='entry of info that is true on success (default: success or'
      ' is_success)',
  )
  parser.add_argument(
      '--max_worlds', type=int, default=MAX_WORLDS,
      help='environments at a time, such as 1 for a robot',
  )
  # Local connections only by default, because there is no encryption.
  parser.add_argument('--host', default='127.0.0.1')
  parser.add_argument('--port', type=int, default=50051)
  options = parser.parse_args()
  if options.max_worlds < 1:
    parser.error(f'--max_worlds must be positive, got {options.max_worlds}.')
  for module in options.module:
    importlib.import_module(module)
  address = f'{options.host}:{options.port}'
  server = serve(
      lambda **settings: gymnasium.make(options.environment, **settings),
      address,
      options.success_key or SUCCESS_KEYS,
      options.max_worlds,
  )
  sys.stdout.write(f'{options.environment} is served at {address}.\n')
  sys.stdout.flush()
  # Any of them ends the program, and closes the environments.
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)
  try:
    server.wait_for_termination()
  except KeyboardInterrupt:
    sys.stdout.write('Interrupted: closing the environments.\n')
  finally:
    server.stop(0).wait()


if __name__ == '__main__':
  main()
