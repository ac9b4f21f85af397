"""Explains errors of MuJoCo's renderers."""

import contextlib
import os
import sys
from typing import Iterator, Tuple, Type


@contextlib.contextmanager
def explained(consequence: str) -> Iterator[None]:
  """Turns errors of a missing renderer into one that says what to install.

  Args:
    consequence: Beginning of the error's message, such as 'A video is not
      possible'.

  Raises:
    ValueError: If the context raised an error of MuJoCo or PyOpenGL.
  """
  try:
    yield
  except NotImplementedError:  # A RuntimeError, but no failure of a renderer.
    raise
  except _errors() as error:
    raise ValueError(
        f'{consequence} because rendering failed: {error!r}.'
        ' Rendering without a display needs the system library OSMesa or EGL'
        ' (Debian: libosmesa6 or libegl1) and MUJOCO_GL=osmesa or'
        f' MUJOCO_GL=egl; MUJOCO_GL is {os.environ.get("MUJOCO_GL")!r}.'
    ) from error


def _errors() -> Tuple[Type[Exception], ...]:
  """Returns the errors of MuJoCo and PyOpenGL if no renderer is available."""
  errors = (ImportError, AttributeError, RuntimeError, OSError)
  # Not every domain uses MuJoCo; a domain that does has imported it.
  mujoco = sys.modules.get('mujoco')
  return errors if mujoco is None else (*errors, mujoco.FatalError)
