"""The version of a served policy's weights, and versions saved on disk.

A version is a name such as `initial+2-9f2c01ab44d0`: the name of the weights
that the server started with, the number of trainings since, and a digest of the
previous version and the arguments of the training. Equal trainings of equal
weights thus give equal versions.
"""

import contextlib
import filecmp
import hashlib
import os
import re
import secrets
import shutil
from typing import Callable, Iterator, List, Optional, Tuple

from parl_tf.serving import log

UNNAMED = 'initial'
"""The first version of a server whose author names none."""

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._+-]{0,199}')
_TRAINED = re.compile(r'(.*)\+(\d+)-[0-9a-f]{12}(\.failed)?')
_PARTIAL = '.partial'
_WRITTEN = re.compile(r'.*-[0-9a-f]{12}\.partial')
# Since the last change of a file. Even a slow `save` writes more often.
_ABANDONED_SECONDS = 3_600.0

_Transfer = Callable[[str], None]


class WeightsError(ValueError):
  """A version is invalid, cannot be saved or loaded, or is not as expected."""


class StaleVersionError(WeightsError):
  """A call expected another version of the weights.

  Attributes:
    version: The server's current version.
  """

  def __init__(self, message: str, version: str):
    """Initializes the error.

    Args:
      message: What was expected.
      version: The server's current version.
    """
    super().__init__(message)
    self.version = version


class Weights:
  """The current version, and the directory of saved ones.

  Attributes:
    version: Name of the current weights.
    directory: Where versions are saved; None if the policy cannot be saved.
  """

  def __init__(
      self,
      version: str,
      *,
      directory: Optional[str] = None,
      save: Optional[_Transfer] = None,
      load: Optional[_Transfer] = None,
  ):
    """Initializes the version.

    Args:
      version: Name of the weights that the server starts with.
      directory: Where to save versions.
      save: Writes the weights to a directory that exists.
      load: Reads the weights from such a directory.

    Raises:
      ValueError: If the name is invalid, or a directory is given without both
        functions.
    """
    if directory is not None and (save is None or load is None):
      raise ValueError('`directory` needs `save` and `load`.')
    self.version = checked_name(version)
    self.directory = directory
    self._save = save
    self._load = load

  def check(self, expected: Optional[str]) -> None:
    """Raises `StaleVersionError` unless the current version is expected.

    Args:
      expected: The expected version; None accepts any.
    """
    if expected is not None and expected != self.version:
      raise StaleVersionError(
          f'The policy server has version {self.version!r} of the weights, but '
          f'{expected!r} was expected. Saved versions: {self.saved()}.',
          self.version,
      )

  def saved(self) -> List[str]:
    """Returns the saved versions, oldest first."""
    directory = self.directory
    if directory is None or not os.path.isdir(directory):
      return []
    names = [
        name for name in os.listdir(directory)
        if _NAME.fullmatch(name) and not name.endswith(_PARTIAL)
    ]
    return sorted(
        names,
        key=lambda name: os.path.getmtime(os.path.join(directory, name)),
    )

  def save(self) -> None:
    """Saves the current version unless it is already saved.

    Raises:
      WeightsError: If there is no directory, or `save` writes nothing.
    """
    directory = self._storage()[0]
    path = os.path.join(directory, self.version)
    if os.path.isdir(path):
      return
    with log.timed('Saving', lambda: self.version):
      with self._written() as written:
        if not _files(written):
          raise WeightsError(
              '`save` must write the weights into the directory that it gets, a'
              f' new one in {directory}, but wrote no file.'
          )
        # Before the client stores the name, so that a power failure leaves no
        # version that has a name but is torn.
        for folder, _, names in os.walk(written):
          for name in (*names, '.'):
            _sync(os.path.join(folder, name))
        try:
          os.replace(written, path)
        except OSError:
          if not os.path.isdir(path):  # Or another server has saved it, too.
            raise
      _sync(directory)

  def differ_from_saved(self) -> bool:
    """Returns whether the current version was saved with other files.

    Calls `save`, so that it takes as long.
    """
    if self.version not in self.saved():
      return False
    path = os.path.join(self._storage()[0], self.version)
    with self._written() as written:
      names = _files(path)
      return names != _files(written) or any(
          filecmp.cmpfiles(path, written, names, shallow=False)[1:]
      )

  def load(self, version: str) -> None:
    """Loads a saved version.

    Raises:
      WeightsError: If the version is invalid or not saved, or there is no
        directory.
    """
    directory, _, load = self._storage()
    path = os.path.join(directory, checked_name(version))
    if version == self.version:
      return
    if not os.path.isdir(path):
      raise WeightsError(
          f'Version {version!r} is not saved in {directory}, which has '
          f'{self.saved()}.'
      )
    with log.timed(f'Loading {version}', lambda: self.version):
      with self.replaced_by(version):
        load(path)

  @contextlib.contextmanager
  def replaced_by(self, version: str) -> Iterator[None]:
    """Names the version after a change; after an error, the failed change.

    Args:
      version: The version if nothing fails.
    """
    try:
      yield
    except BaseException:
      self.version = failed(self.version)
      raise
    self.version = version

  @contextlib.contextmanager
  def _written(self) -> Iterator[str]:
    """Writes the current version to a directory that exists meanwhile.

    Its name is unique: servers that share the parent may do so at once.
    """
    directory, save, _ = self._storage()
    written = os.path.join(
        directory, f'{self.version}-{secrets.token_hex(6)}{_PARTIAL}'
    )
    os.makedirs(written)
    try:
      _remove_abandoned(directory, written)
      save(written)
      yield written
    finally:
      shutil.rmtree(written, ignore_errors=True)

  def _storage(self) -> Tuple[str, _Transfer, _Transfer]:
    """Returns the directory and the functions that save and load weights."""
    if self.directory is None or self._save is None or self._load is None:
      raise WeightsError('This policy server cannot save or load its weights.')
    return self.directory, self._save, self._load


def checked_name(version: str) -> str:
  """Returns a version's name.

  Raises:
    WeightsError: If it cannot be the name of a directory.
  """
  if not isinstance(version, str) or not _NAME.fullmatch(version):
    raise WeightsError(
        'A version must consist of at most 200 letters, digits and ._+-, and '
        f'begin with a letter or digit, got {version!r}.'
    )
  return version


def trained(version: str, digest: str) -> str:
  """Returns the version after a training.

  Args:
    version: The version before.
    digest: Digest of the arguments of the training.
  """
  found = _TRAINED.fullmatch(version)
  first, number = (found[1], int(found[2]) + 1) if found else (version, 1)
  combined = hashlib.sha256(f'{version} {digest}'.encode()).hexdigest()
  return f'{first}+{number}-{combined[:12]}'


def failed(version: str) -> str:
  """Returns the name of weights that a failed call may have changed."""
  return f'{version.removesuffix(".failed")}.failed'


def _files(path: str) -> List[str]:
  """Returns the relative paths of all files of a directory."""
  return sorted(
      os.path.relpath(os.path.join(folder, name), path)
      for folder, _, names in os.walk(path)
      for name in names
  )


def _remove_abandoned(directory: str, written: str) -> None:
  """Removes what servers that were killed have not finished.

  Args:
    directory: Of all versions.
    written: A new directory in it, whose time is now by the clock that the
      servers of a shared directory have in common.
  """
  now = os.path.getmtime(written)
  for name in os.listdir(directory):
    path = os.path.join(directory, name)
    if not _WRITTEN.fullmatch(name):
      continue
    with contextlib.suppress(FileNotFoundError):  # Its server goes on.
      times = [os.path.getmtime(os.path.join(path, x)) for x in _files(path)]
      if now - max([os.path.getmtime(path), *times]) > _ABANDONED_SECONDS:
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: str) -> None:
  """Writes a file or a directory to the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
