"""Ends the episodes of environments after an error, and closes them."""

import contextlib
from typing import Iterator, Sequence

from absl import logging

from parl_tf.domains import domain as domain_lib


@contextlib.contextmanager
def abandoned_on_error(
    environments: Sequence[domain_lib.Environment],
) -> Iterator[None]:
  """Abandons the episodes on any exception, including interrupts.

  An error between two steps, such as Ctrl-C while the policy decides, would
  otherwise leave a robot moving.

  Args:
    environments: Environments that are played meanwhile.
  """
  try:
    yield
  except BaseException:
    for environment in environments:
      try:
        environment.abandon()
      except Exception:  # noqa: BLE001 (the error that came first counts)
        logging.exception('An episode could not be abandoned.')
    raise


def close(domain, environments: Sequence[domain_lib.Environment]) -> None:
  """Closes environments that have been played.

  A task with a limited number of environments shares them, so they stay open.
  An error is logged, because the results of a run do not depend on it.

  Args:
    domain: Their `Domain`.
    environments: The environments.
  """
  if domain.max_environments is None:
    for environment in environments:
      try:
        environment.close()
      except Exception:  # noqa: BLE001 (environments are the user's code)
        logging.exception('An environment could not be closed.')
