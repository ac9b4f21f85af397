"""Checks, before any process starts, that a run can be launched."""

import errno
import os

import gin


def check() -> None:
  """Checks gin's configuration, without creating the domain.

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
      raise ValueError(
          f'{domain.selector} has a single environment (`max_environments` is'
          ' 1), which learner, collectors and evaluator would all move. Start'
          ' the service, the learner and one collector for each robot by hand,'
          ' each with a driver of its own, as docs/fleet.md describes.'
      )
  path = gin.get_bindings('run_experiment').get('dataset_path')
  if path is not None and not os.path.exists(path):
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
