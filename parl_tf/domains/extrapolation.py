"""Whether returns go on past the time limit of a domain."""

from typing import Optional

import gin

from parl_tf.domains import domain as domain_lib


@gin.configurable(denylist=['domain', 'gamma'])
def extrapolates_returns(
    domain: domain_lib.Domain, gamma: float, enabled: Optional[bool] = None
) -> bool:
  """Returns whether returns go on past the time limit of a domain.

  Args:
    domain: Domain whose `extrapolates_returns` decides, if it is not None.
    gamma: Discount factor. Without a discount nothing is extrapolated, because
      endless rewards have no finite sum.
    enabled: Decides in place of the domain; None lets the domain decide. With
      False, returns are 0 past the last step, as in the papers.
  """
  if gamma == 1.0:
    return False
  if enabled is None:
    enabled = domain.extrapolates_returns
  if enabled is None:
    return domain.never_succeeds_value(gamma) is None
  return enabled
