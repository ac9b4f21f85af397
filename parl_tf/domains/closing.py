"""Closes the environments of a domain."""

from typing import Sequence

from parl_tf.domains import domain as domain_lib


def close(domain, environments: Sequence[domain_lib.Environment]) -> None:
  """Closes environments that have been played.

  A task with a limited number of environments shares them, so they stay open.

  Args:
    domain: Their `Domain`.
    environments: The environments.
  """
  if domain.max_environments is None:
    for environment in environments:
      environment.close()
