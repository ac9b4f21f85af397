"""Prints the reference of all gin parameters, made from the source code.

  python docs/parameters.py [NAME ...]

With names it prints only those. It lists what gin may bind: each function and
class that is configurable, with its parameters, their defaults and their
docstrings. The sources are parsed and not imported, so that the site needs no
TensorFlow. `docs/parameters.md` is the page's introduction.
"""

import ast
import inspect
import pathlib
import re
import sys
from typing import (
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Union,
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
_PACKAGE = 'parl_tf'

# Folder below `parl_tf`, and its heading.
_SECTIONS = {
    'training': 'Experiment, phases, agent and export',
    'agents': 'Agents',
    'search': 'Action search',
    'critics': 'Critics',
    'policies': 'Policies',
    'improvers': 'Policy improvers',
    'networks': 'Networks',
    'domains': 'Tasks',
    'datasets': 'Datasets',
    'replay': 'Replay',
    'distributed': 'Runs of several processes',
}
# Configurable, with the parameters of Keras.
_KERAS = 'Adam'
_ARXIV = re.compile(r'arXiv:(\d{4}\.\d{5})')

_Definition = Union[ast.ClassDef, ast.FunctionDef]


class Parameter(NamedTuple):
  """A parameter that gin may bind.

  Attributes:
    name: Name of the parameter.
    default: Default as Python source; 'required' if there is none.
    text: Its entry in the docstring, on one line; '' if there is none.
  """

  name: str
  default: str
  text: str


class Configurable(NamedTuple):
  """A configurable function or class.

  Attributes:
    name: Name in gin.
    module: Dotted module that defines it.
    text: Docstring before its `Args:` or `Attributes:`.
    parameters: What gin may bind, without those of `others`.
    others: Another configurable whose parameters it also takes, or ''.
  """

  name: str
  module: str
  text: str
  parameters: List[Parameter]
  others: str


def configurables() -> List[Configurable]:
  """Returns all configurables of the package, by module and line."""
  trees = {
      path: ast.parse(path.read_text(encoding='utf-8'))
      for path in sorted((ROOT / _PACKAGE).rglob('*.py'))
  }
  classes = {
      node.name: node
      for tree in trees.values()
      for node in ast.walk(tree)
      if isinstance(node, ast.ClassDef)
  }
  found = []
  for path, tree in trees.items():
    module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    for node, call in _configurable_nodes(tree, classes):
      found.append(_describe(node, call, module, classes))
  names = {configurable.name for configurable in found}
  # Several modules have constants of the same name.
  constants = {
      f'{path.stem}.{ast.unparse(node.targets[0])}': ast.unparse(node.value)
      for path, tree in trees.items()
      for node in tree.body
      if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper()
  }
  return [
      _with_values(_with_base(x, names, classes), constants) for x in found
  ]


def page() -> str:
  """Returns the reference as Markdown."""
  lines = []
  found = configurables()
  for folder, title in _SECTIONS.items():
    own = [x for x in found if x.module.startswith(f'{_PACKAGE}.{folder}.')]
    lines += [f'## {title}', '']
    for configurable in own:
      lines += _entry(configurable)
  return '\n'.join(lines)


def entries(names: Sequence[str]) -> str:
  """Returns the entries of some names as Markdown.

  Raises:
    ValueError: If gin has no such name.
  """
  found = {x.name: x for x in configurables()}
  lines = []
  for name in names:
    if name not in found:
      raise ValueError(
          f'`{name}` must be one of {sorted(found)}. The documentation of other'
          ' packages has the parameters of their classes, such as `Adam`.'
      )
    lines += _entry(found[name])
  return '\n'.join(lines)


def _configurable_nodes(tree, classes) -> Iterator:
  """Yields definitions, each with the call of gin's decorator or None."""
  for node in tree.body:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
      for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        if ast.unparse(call.func if call else decorator) == 'gin.configurable':
          yield node, call
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
      if ast.unparse(node.value.func) == 'gin.external_configurable':
        name = ast.unparse(node.value.args[0]).rpartition('.')[2]
        if name != _KERAS:
          yield classes[name], node.value


def _describe(node, call, module, classes) -> Configurable:
  """Describes one configurable.

  Args:
    node: Definition of the class or function.
    call: Call of the decorator; None if it has no arguments.
    module: Dotted module.
    classes: All classes of the package, by name.
  """
  name, denylist = node.name, []
  if call is not None:
    if call.args and isinstance(call.args[0], ast.Constant):
      name = call.args[0].value
    for keyword in call.keywords:
      if keyword.arg == 'denylist':
        denylist = ast.literal_eval(keyword.value)
  parameters, others = _parameters(_constructor(node, classes), denylist)
  text = _summary(ast.get_docstring(node) or '')
  return Configurable(name, module, text, parameters, others)


def _with_base(configurable, names, classes) -> Configurable:
  """Adds the parameters of a base class that is not configurable itself."""
  base = configurable.others
  if base in ('', *names):
    return configurable
  parameters, others = _parameters(_constructor(classes[base], classes), ())
  own = {parameter.name for parameter in configurable.parameters}
  # The subclass passes the positional ones.
  parameters = [x for x in parameters if x.default != 'required']
  return configurable._replace(
      parameters=[
          *configurable.parameters,
          *(x for x in parameters if x.name not in own),
      ],
      others=others,
  )


def _with_values(configurable, constants) -> Configurable:
  """Replaces defaults that name a constant of a module by its value."""
  module = configurable.module.rpartition('.')[2]
  return configurable._replace(
      parameters=[
          x._replace(
              default=constants.get(
                  x.default, constants.get(f'{module}.{x.default}', x.default)
              )
          )
          for x in configurable.parameters
      ]
  )


def _parameters(
    function: Optional[ast.FunctionDef], denylist: Sequence[str]
) -> tuple[List[Parameter], str]:
  """Returns the parameters of a function, and whose it takes in addition."""
  if function is None:
    return [], ''
  texts = _argument_texts(ast.get_docstring(function) or '')
  parameters = [
      Parameter(name, default, texts.get(name, ''))
      for name, default in _arguments(function)
      if name not in ('self', *denylist)
  ]
  rest = function.args.kwarg
  passed_on = re.search(r'`(\w+)`', texts.get(rest.arg, '') if rest else '')
  return parameters, passed_on[1] if passed_on else ''


def _constructor(
    node: _Definition, classes: Dict[str, ast.ClassDef]
) -> Optional[ast.FunctionDef]:
  """Returns the function whose arguments gin binds; None if it has none."""
  if isinstance(node, ast.FunctionDef):
    return node
  for item in node.body:
    if isinstance(item, ast.FunctionDef) and item.name == '__init__':
      return item
  for base in node.bases:
    name = ast.unparse(base).rpartition('.')[2]
    if name in classes:
      return _constructor(classes[name], classes)
  return None


def _arguments(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
  """Yields the name and the default of each argument."""
  arguments = function.args
  positional = [*arguments.posonlyargs, *arguments.args]
  num_required = len(positional) - len(arguments.defaults)
  defaults = [None] * num_required + arguments.defaults
  pairs = [
      *zip(positional, defaults, strict=True),
      *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
  ]
  for argument, default in pairs:
    if default is None or ast.unparse(default) == 'gin.REQUIRED':
      yield argument.arg, 'required'
    else:
      # `module.Class` by the name that gin knows; a constant keeps its module.
      text = ast.unparse(default)
      yield argument.arg, re.sub(r'^[a-z]\w*\.(?=[A-Z]\w*[a-z])', '', text)


def _argument_texts(docstring: str) -> Dict[str, str]:
  """Returns the entries of the section `Args:`, each on one line."""
  section = re.search(
      r'^Args:\n(.*?)(?=^\S|\Z)',
      inspect.cleandoc(docstring),
      re.DOTALL | re.MULTILINE,
  )
  if not section:
    return {}
  entries = re.findall(
      r'^  \**(\w+): (.*?)(?=^  \S|\Z)', section[1], re.DOTALL | re.MULTILINE
  )
  return {name: ' '.join(text.split()) for name, text in entries}


def _summary(docstring: str) -> str:
  """Returns a docstring up to its first section, such as `Args:`."""
  text = inspect.cleandoc(docstring)
  return re.split(r'^\w+:\n', text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def _entry(configurable: Configurable) -> List[str]:
  """Returns the lines of the page on one configurable."""
  path = f'../{configurable.module.replace(".", "/")}.py'
  text = _ARXIV.sub(r'[\g<0>](https://arxiv.org/abs/\1)', configurable.text)
  lines = [f'### {configurable.name}', '', text, '']
  if configurable.parameters:
    lines += ['| parameter | default | meaning |', '|---|---|---|']
    lines += [
        f'| `{name}` | {_code(default)} | {_cell(text)} |'
        for name, default, text in configurable.parameters
    ]
    lines.append('')
  if configurable.others:
    others = configurable.others
    link = f'[`{others}`](#{others.lower()})'
    lines += [f'It also takes the parameters of {link}.', '']
  return [*lines, f'Defined in [`{configurable.module}`]({path}).', '']


def _code(default: str) -> str:
  return default if default == 'required' else f'`{_cell(default)}`'


def _cell(text: str) -> str:
  return text.replace('|', r'\|')


if __name__ == '__main__':
  try:
    print(entries(sys.argv[1:]) or page())  # noqa: T201
  except ValueError as error:
    sys.exit(str(error))
