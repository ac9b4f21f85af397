"""Ray on this machine alone, or on a cluster that is already there."""

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
  # Its workers would step back before all else on the machine.
  os.environ.setdefault('RAY_worker_niceness', '0')
  if address:
    ray.init(address=address, log_to_driver=False, **options)
    return
  # Who can reach Ray's ports can run programs. On loopback it needs no token,
  # which would be kept in the home directory.
  os.environ.setdefault('RAY_AUTH_MODE', 'disabled')
  # Ray turns a loopback address that it is given into one that other machines
  # reach. This switch, meant for desktops, is the only one that keeps it; it is
  # read when Ray is imported, and by the processes that it starts.
  os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = '0'
  ray_constants.ENABLE_RAY_CLUSTER = False
  # 'local', or it would join a cluster that was started on this machine.
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
