"""The client that trains a policy; a server has one at a time.

Two would train each other's weights, and end each other: at its next draw, each
would find a version that is not its own.
"""

from typing import Any, Callable


class TakenError(ValueError):
  """A call would change weights that another client trains."""


class Trainer:
  """Knows the client that trains, until its connection closes."""

  def __init__(self):
    """Initializes a policy that nobody trains."""
    self._client: Any = None
    self._is_connected: Callable[[], bool] = lambda: False

  def meet(self, client: Any, is_connected: Callable[[], bool]) -> None:
    """Notes a call: the client that trains may have another connection now.

    Args:
      client: Its name, or its session if it gives none.
      is_connected: Returns whether its connection is open.
    """
    if client == self._client:
      self._is_connected = is_connected

  def check(self, client: Any, version: str) -> None:
    """Raises `TakenError` if another client trains.

    Args:
      client: The client that wants to change the weights.
      version: Version of the weights.
    """
    if client != self._client and self._is_connected():
      name = self._client if isinstance(self._client, str) else 'another client'
      raise TakenError(
          f'This policy, now of version {version!r}, is trained by {name}, '
          'which is still connected. End it, or start a second server with '
          'another port and directory.'
      )

  def take(
      self, client: Any, is_connected: Callable[[], bool], version: str
  ) -> None:
    """Makes a client the one that trains.

    Args:
      client: See `meet`.
      is_connected: See `meet`.
      version: Version of the weights.

    Raises:
      TakenError: If another client trains.
    """
    self.check(client, version)
    self._client, self._is_connected = client, is_connected
