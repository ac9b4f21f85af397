"""Starts Ray on this machine only, or connects to an existing cluster."""

import os
from typing import Optional

import ray
from ray._private import ray_constants

_LOOPBACK = '127.0.0.1'


def start(address: Optional[str], **options) -> None:
  """Connects to a cluster, or starts Ray on loopback.

  Args:
    address: `host:port` of the cluster; None for this machine only.
    **options: Further options of `ray.init`.

  Raises:
    ConnectionError: If there is no cluster at `address`.
    RuntimeError: If Ray accepts connections from other machines although
      `address` is None.
  """
  # Ray lowers the priority of its workers by default.
  os.environ.setdefault('RAY_worker_niceness', '0')
  if address:
    ray.init(address=address, log_to_driver=False, **options)
    return
  # Anyone who can reach Ray's ports can run programs. On loopback, no
  # authentication token is needed; Ray would store it in the home directory.
  os.environ.setdefault('RAY_AUTH_MODE', 'disabled')
  # Ray replaces a loopback address with one that other machines can reach. Only
  # this switch, meant for desktops, prevents it. Ray and the processes that it
  # starts read the switch when they import Ray.
  os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = '0'
  ray_constants.ENABLE_RAY_CLUSTER = False
  # Without 'local', Ray would join a cluster that runs on this machine.
  ray.init(
      address='local', include_dashboard=False, log_to_driver=False, **options
  )
  host = ray.util.get_node_ip_address()
  if host != _LOOPBACK:
    ray.shutdown()
    raise RuntimeError(
        f'Ray must listen on {_LOOPBACK} only, but listens on {host}: version'
        f' {ray.__version__} of Ray needs another setting.'
    )
