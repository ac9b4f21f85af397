"""Finds bindings of a user that others, for narrower scopes, override.

`Adam.learning_rate` has no effect where the library binds
`critic/Adam.learning_rate` and those of the other scopes.
"""

from typing import Callable, Dict, List, Sequence, Set, Tuple

from gin import config

from parl_tf.binaries import unused_bindings


def warnings(
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    find: Callable[[str], str],
    is_own: Callable[[str], bool],
) -> List[str]:
  """Returns a sentence for each binding of the user without effect.

  Call it once the agent is made: what gin has called until then is known.

  Args:
    gin_files: Names of the gin files that have been parsed.
    gin_bindings: Bindings that have been parsed.
    find: Returns the path of a file.
    is_own: Whether a path is that of a user's file.
  """
  found: Dict[str, str] = {}
  for source, statement in unused_bindings.own_statements(
      gin_files, gin_bindings, find, is_own
  ):
    scope, name = statement.scope or '', statement.selector.rpartition('.')[2]
    is_used, winners = uses(scope, name, statement.arg_name)
    if is_used or not (winners or unused_bindings.is_of_agent(statement)):
      continue
    text = f'{f"{scope}/" if scope else ""}{name}.{statement.arg_name}'
    reason = no_effect(winners) if winners else (
        'has no effect: no part of the agent reads it. `operative_config.gin`'
        ' in the directory of the run lists what they read.'
    )
    found[text] = f'{source}: {text} {reason}'
  return list(found.values())


def no_effect(winners: Set[str]) -> str:
  """Returns what to say of a binding that `winners` override."""
  verb, these = ('override', 'these') if len(winners) > 1 else (
      'overrides', 'that'
  )
  names = ' and '.join(sorted(winners))
  return f'has no effect, because {names} {verb} it. Set {these} instead.'


def uses(
    scope: str, configurable: str, parameter: str
) -> Tuple[bool, Set[str]]:
  """Returns whether gin has used a binding, and those that it used instead.

  Args:
    scope: Scope of the binding, or ''.
    configurable: Name without its module.
    parameter: Name of the parameter.
  """
  is_used = False
  winners = set()
  for (used, selector), values in config._OPERATIVE_CONFIG.items():
    # gin leaves out parameters that the caller passed.
    if (
        selector.split('.')[-1] == configurable
        and parameter in values
        and (not scope or f'{used}/'.startswith(f'{scope}/'))
    ):
      bound = _binding_scope(used, selector, parameter)
      if bound == scope:
        is_used = True
      else:
        winners.add(f'{bound}/{configurable}.{parameter}')
  return is_used, winners


def _binding_scope(used: str, selector: str, parameter: str) -> str:
  """Returns the scope of the binding that gin takes in a scope."""
  parts = used.split('/')
  for length in range(len(parts), 0, -1):
    scope = '/'.join(parts[:length])
    if parameter in config._CONFIG.get((scope, selector), {}):
      return scope
  return ''
