"""Checks, before any process starts, that a run can be launched."""

import errno
import os

import gin

from parl_tf.domains import domain as domain_lib


def check() -> None:
  """Checks gin's configuration, without creating the domain.

  A domain that is not bound directly, but by a macro, is checked by each
  process; see `domain.select_domain`.

  Raises:
    FileNotFoundError: If the dataset does not exist.
    ValueError: If the task has a single environment, such as a robot, which
      every process would move.
  """
  domain = gin.query_parameter('select_domain.domain')
  if isinstance(domain, gin.config.ConfigurableReference):
    limit = gin.get_bindings(domain.selector).get(
        'max_environments',
        getattr(domain.configurable.wrapped, 'max_environments', None),
    )
    if limit == 1:
      raise ValueError(domain_lib.SHARED)
  path = gin.get_bindings('run_experiment').get('dataset_path')
  if path and not os.path.exists(path):
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
