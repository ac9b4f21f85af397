"""Ray on this machine only, or on an existing cluster."""

import os
from typing import Optional

import ray
from ray._private import ray_constants

_LOOPBACK = '127.0.0.1'


def start(address: Optional[str], **options) -> None:
  """Connects to a cluster, or starts Ray on loopback.

  Args:
    address: `host:port` of the cluster; None for this machine alone.
    **options: Further ones of `ray.init`.

  Raises:
    ConnectionError: If there is no cluster.
    RuntimeError: If Ray listens to other machines though none was asked for.
  """
  # Ray lowers the priority of its workers by default.
  os.environ.setdefault('RAY_worker_niceness', '0')
  if address:
    ray.init(address=address, log_to_driver=False, **options)
    return
  # Anyone who reaches Ray's ports can run programs. On loopback no token is
  # needed, which Ray would store in the home directory.
  os.environ.setdefault('RAY_AUTH_MODE', 'disabled')
  # Ray replaces a loopback address by one that other machines reach. Only this
  # switch, meant for desktops, prevents it. Ray reads it at import, and so do
  # the processes it starts.
  os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = '0'
  ray_constants.ENABLE_RAY_CLUSTER = False
  # Without 'local' it would join a cluster running on this machine.
  ray.init(
      address='local', include_dashboard=False, log_to_driver=False, **options
  )
  host = ray.util.get_node_ip_address()
  if host != _LOOPBACK:
    ray.shutdown()
    raise RuntimeError(
        f'Ray must listen on {_LOOPBACK} only, but does on {host}: this version'
        f' of it ({ray.__version__}) takes another setting.'
    )
