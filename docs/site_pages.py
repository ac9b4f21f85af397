"""Hook of mkdocs: the site's pages beside those in this folder.

The README becomes the start page. ARCHITECTURE.md, the changelog, the results
and the examples keep their places in the repository, and the references are
generated. Links are those of the repository: the hook points them to the pages
of the site, and adds a page for each source file that a page links to.
"""

import pathlib
import posixpath
import re
from typing import Dict, Iterator, Tuple

from mkdocs.structure import files as files_lib

from docs import commands
from docs import parameters

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_HERE = 'docs'
# Page of the site by path in the repository, in addition to those of `docs`.
_MOVED = {
    'README.md': 'index.md',
    'ARCHITECTURE.md': 'architecture.md',
    'CHANGELOG.md': 'changelog.md',
    'benchmarks/results/README.md': 'results.md',
    'benchmarks/results/wrong_inputs.md': 'wrong_inputs.md',
}
# What follows the marker in these pages is for readers of the repository.
_GENERATED = {'parameters.md': parameters.page, 'commands.md': commands.page}
_MARKER = '<!-- generated -->'
_IMAGES = ('.png', '.svg')
_SOURCES = 'source'
_LANGUAGES = {'.py': 'python', '.gin': 'python', '.c': 'c', '.ipynb': 'json'}

_LINK = re.compile(r'(?<=\]\()(?!\w+:|#)([^)\s]+)(?=\))')
# A picture for light and for dark pages, as GitHub shows it.
_PICTURE = re.compile(
    r'<picture>\s*<source [^>]*srcset="([^"]+)">\s*'
    r'<img src="([^"]+)" alt="([^"]+)">\s*</picture>'
)


def on_files(files, config):
  """Adds the pages that are not in `docs`."""
  for path, name in _moved().items():
    text = (_ROOT / path).read_text(encoding='utf-8')
    files.append(_generated(config, name, text))
  for name, make in _GENERATED.items():
    file = files.get_file_from_path(name)
    introduction = file.content_string.partition(_MARKER)[0]
    files.remove(file)
    files.append(_generated(config, name, introduction + make()))
  added = {}
  for page in list(files.documentation_pages()):
    for path in _linked(page.src_uri, page.content_string):
      added.setdefault(_page_of(path), path)
  for name, path in added.items():
    if files.get_file_from_path(name) is None:
      files.append(_copy(config, name, path))
  return files


def on_page_markdown(markdown, page, config, files):
  """Points the links of a page to pages of the site."""
  del config, files  # Part of mkdocs' interface.
  name = page.file.src_uri
  if name == _MOVED['README.md']:
    page.meta['hide'] = ['navigation']  # It has no pages beside it.
  if name.startswith(f'{_SOURCES}/'):
    return markdown

  def replace(match):
    path, anchor = _target(name, match[1])
    if path is None:
      return match[1]
    link = posixpath.relpath(_page_of(path), posixpath.dirname(name) or '.')
    return f'{link}#{anchor}' if anchor else link

  return _LINK.sub(replace, _with_themed_pictures(markdown))


def _moved() -> Dict[str, str]:
  examples = {
      path.relative_to(_ROOT).as_posix(): f'examples/{path.parent.name}.md'
      for path in sorted((_ROOT / 'examples').glob('*/README.md'))
  }
  return {**_MOVED, **examples}


def _with_themed_pictures(markdown: str) -> str:
  return _PICTURE.sub(
      r'![\3](\2#only-light)\n![\3](\1#only-dark)', markdown
  )


def _linked(name: str, markdown: str) -> Iterator[str]:
  """Yields the paths in the repository that a page links to."""
  for link in _LINK.findall(_with_themed_pictures(markdown)):
    path, _ = _target(name, link)
    if path is not None:
      yield path


def _target(name: str, link: str) -> Tuple[str | None, str]:
  """Returns the path in the repository of a link, and its anchor.

  The path is None for a file that does not exist, which mkdocs reports.
  """
  path, _, anchor = link.partition('#')
  places = {page: place for place, page in _moved().items()}
  folder = posixpath.dirname(places.get(name, f'{_HERE}/{name}'))
  path = posixpath.normpath(posixpath.join(folder, path))
  if (_ROOT / path).is_dir():
    path = f'{path}/README.md'
  return (path if (_ROOT / path).is_file() else None), anchor


def _page_of(path: str) -> str:
  """Returns the site's file for a path in the repository."""
  if path in _moved():
    return _moved()[path]
  if path.startswith(f'{_HERE}/') and not path.endswith('.py'):
    return posixpath.relpath(path, _HERE)
  if path.endswith(_IMAGES):
    return posixpath.basename(path)
  return f'{_SOURCES}/{path}.md'


def _copy(config, name: str, path: str):
  if path.endswith(_IMAGES):
    return files_lib.File.generated(
        config, name, abs_src_path=str(_ROOT / path)
    )
  text = (_ROOT / path).read_text(encoding='utf-8')
  language = _LANGUAGES.get(pathlib.Path(path).suffix, 'text')
  lines = [f'# {path}', '', f'~~~~{language}', text.rstrip(), '~~~~', '']
  return _generated(config, name, '\n'.join(lines))


def _generated(config, name: str, text: str):
  return files_lib.File.generated(config, name, content=text)
