"""Tests that gin files can be included in any order.

A run combines a method, a domain and, if the method does not select them, a
critic and a policy. In gin the last binding of a parameter wins, so no two of
these files may bind one parameter to different values. Files in `sizes`,
`experiments`, `ablations` and `variants` come last and may override them.
"""

import functools
import itertools
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import gin
from gin import config_parser

from parl_tf.binaries import configs

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'gin'
_PARTS = ('domains', 'critics', 'policies', 'methods')
_FILES = {
    part: sorted(f'{part}/{x.name}' for x in (_FOLDER / part).glob('*.gin'))
    for part in _PARTS
}
_CRITIC = ('', 'build_agent', 'critic_ctor')
_POLICY = ('', 'build_agent', 'policy_ctor')


class _Names(config_parser.ParserDelegate):
  """Represents references and macros as text, without importing anything."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    return f'@{scoped_configurable_name}{"()" if evaluate else ""}'

  def macro(self, macro_name):
    return f'%{macro_name}'


@functools.lru_cache(maxsize=None)
def _statements(name):
  """Returns the statements of a file."""
  with open(_FOLDER / name, encoding='utf-8') as file:
    return tuple(config_parser.ConfigParser(file, _Names()))


def _key(statement):
  # In gin, `tf.keras.optimizers.Adam` and `Adam` are the same configurable.
  name = statement.selector.rsplit('.', maxsplit=1)[-1]
  return statement.scope, name, statement.arg_name


def _own_keys(name):
  """Returns the parameters that a file binds, without its included files."""
  return {
      _key(x)
      for x in _statements(name)
      if isinstance(x, config_parser.BindingStatement)
  }


def _includes(name):
  return [
      x.filename
      for x in _statements(name)
      if isinstance(x, config_parser.IncludeStatement)
  ]


@functools.lru_cache(maxsize=None)
def _bindings(name):
  """Returns the bindings of a file and its included files; the last wins."""
  found = {}
  for statement in _statements(name):
    if isinstance(statement, config_parser.IncludeStatement):
      found.update(_bindings(statement.filename))
    elif isinstance(statement, config_parser.BindingStatement):
      found[_key(statement)] = repr(statement.value)
  return found


def _combine(names):
  found = {}
  for name in names:
    found.update(_bindings(name))
  return found


def _combinations():
  """Returns all combinations of a method, a critic, a policy and a domain."""
  critics = [x for x in _FILES['critics'] if _CRITIC in _bindings(x)]
  policies = [x for x in _FILES['policies'] if _POLICY in _bindings(x)]
  return [
      (method, *parts)
      for method in _FILES['methods']
      for parts in itertools.product(
          *([] if _CRITIC in _bindings(method) else [critics]),
          *([] if _POLICY in _bindings(method) else [policies]),
          _FILES['domains'],
      )
  ]


def _text(key):
  scope, name, parameter = key
  name = f'{name}.{parameter}' if parameter else name  # Macros have none.
  return f'{scope}/{name}' if scope else name


class GinOrderTest(parameterized.TestCase):

  def test_any_order_gives_the_same_bindings(self):
    combinations = _combinations()
    for names in combinations:
      expected = _combine(names)
      for order in itertools.permutations(names):
        found = _combine(order)
        differing = [_text(x) for x in expected if found[x] != expected[x]]
        self.assertEmpty(differing, f'{names} and {order}')
    self.assertGreaterEqual(len(combinations), 2_400)

  @parameterized.parameters(*_FILES['methods'])
  def test_gin_itself_agrees_in_any_order(self, method):
    self.addCleanup(gin.clear_config)
    options = [x for x in _combinations() if x[0] == method]
    # Choose a different critic, policy and domain for each method.
    names = options[53 * _FILES['methods'].index(method) % len(options)]
    found = set()
    for order in itertools.permutations(names):
      gin.clear_config()
      configs.parse(order)
      found.add(
          '\n'.join(
              line
              for line in gin.config_str().splitlines()
              if not line.startswith(('import ', 'from '))
          )
      )
    self.assertLen(found, 1, names)

  def test_no_parameter_is_bound_in_two_folders(self):
    binders = {}
    for name in itertools.chain(*_FILES.values()):
      for key in _own_keys(name):
        binders.setdefault(key, []).append(name)
    for key, names in sorted(binders.items()):
      folders = {x.split('/')[0] for x in names}
      self.assertLen(folders, 1, f'{_text(key)} is bound in {names}.')

  @parameterized.parameters('paper', 'small', 'small_robot')
  def test_sizes_do_not_change_what_defines_a_method(self, size):
    defining = ('Online', 'PARLAgent', 'Ranking', 'build_agent')
    sizes = _bindings(f'sizes/{size}.gin')
    for method in _FILES['methods']:
      bound = _bindings(method)
      changed = {x for x in sizes.keys() & bound if sizes[x] != bound[x]}
      self.assertContainsSubset(
          {_text(x) for x in changed if x[1] in defining},
          {'Online.num_episodes'},
          method,
      )

  def test_other_methods_keep_their_updates_and_rows_beside_those_of_pa_rl(
      self,
  ):
    keys = (
        ('', 'PARLAgent', 'critic_utd'),
        ('', 'Online', 'policy_offline_fraction'),
    )
    for method in (
        'cal_ql', 'cql', 'diffusion_q_learning', 'dsrl', 'expo', 'fql', 'ibrl',
        'idql', 'iql', 'qc', 'qc_fql', 'rlpd', 'sac', 'wsrl',
    ):
      name = f'methods/{method}.gin'
      for key in keys:
        self.assertNotIn('%', _bindings(name)[key], method)
        names = (name, 'sizes/images.gin')
        self.assertEqual(_combine(names)[key], _bindings(name)[key], names)

  def test_other_methods_have_none_of_the_targets_that_pa_rl_adds(self):
    for method in _FILES['methods']:
      name = pathlib.Path(method).stem
      # IDQL's critic is PA-RL's IQL, which draws no actions for its targets.
      if name.startswith(('pa_rl', 'parl_')) or name == 'idql':
        continue
      found = {**_bindings('quickstart.gin'), **_bindings(method)}
      for key, wanted in (
          (('', 'TDCritic', 'target_noise'), '0.0'),
          (('', 'TDCritic', 'return_floor'), 'False'),
          (('', 'n_step_returns', 'online_steps'), '1'),
          (('', 'build_agent', 'target_policy_rate'), '1.0'),
          (('', 'build_agent', 'sampling_policy_rate'), '1.0'),
          (('', 'Online', 'max_online_weight'), 'None'),
      ):
        self.assertEqual(found[key], wanted, f'{method}: {key}')

  def test_methods_that_only_rank_use_ranking(self):
    # Sizes would override a number of gradient steps of 0.
    steps = ('', 'ActionOptimizer', 'num_gradient_steps')
    for method in _FILES['methods']:
      self.assertNotEqual(_bindings(method).get(steps), '0', method)

  def test_each_folder_includes_only_allowed_folders(self):
    allowed = {x: (x,) for x in _PARTS}
    allowed['methods'] = ('methods', 'critics', 'policies')
    for folder, names in _FILES.items():
      for name in names:
        for included in _includes(name):
          self.assertIn(
              included.split('/')[0], allowed[folder], f'{name}: {included}'
          )

  def test_every_critic_policy_and_domain_can_be_combined(self):
    used = set(itertools.chain(*_combinations()))
    # Files that others of their folder include need not select a part.
    fragments = {
        x
        for name in itertools.chain(*_FILES.values())
        for x in _includes(name)
    }
    for name in itertools.chain(*_FILES.values()):
      self.assertIn(name, used | fragments)


if __name__ == '__main__':
  absltest.main()
