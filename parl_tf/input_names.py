"""Names of the inputs of SavedModels for the parts of an observation."""

import re
from typing import Dict, Iterable

SINGLE = 'observation'
"""Input of an observation that is one array."""
SEED = 'seed'
"""Input of the random seed."""

_KEY = re.compile(r'[a-zA-Z0-9_./-]+')


def of(keys: Iterable[str]) -> Dict[str, str]:
  """Returns the names of the inputs, by key of the observation.

  A key that is an identifier is the name. In others, as TensorFlow does, each
  other character becomes `_`, and `arg_` precedes a first one that is not a
  letter. The part `seed` is `observation_seed`.

  Args:
    keys: Keys of a dict observation.

  Raises:
    ValueError: If two keys have the same name, or a key has characters that
      TensorFlow does not allow.
  """
  names: Dict[str, str] = {}
  for key in sorted(keys):
    if not _KEY.fullmatch(key):
      raise ValueError(
          'The keys of an observation must have letters, digits and _ . / -'
          f' only, got {key!r}: no policy with it can be exported.'
      )
    name = re.sub(r'[^a-zA-Z0-9_]', '_', key)
    if not name[:1].isalpha():
      name = f'arg_{name}'
    if name == SEED:
      name = f'observation_{name}'
    for other, its_name in names.items():
      if name == its_name:
        raise ValueError(
            'The keys of an observation must differ in their letters, digits'
            f' and underscores, got {other!r} and {key!r}: an exported policy'
            f' would have two inputs {name!r}.'
        )
    names[key] = name
  return names
