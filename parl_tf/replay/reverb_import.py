"""Imports Reverb, or raises an error that explains how to install it."""

try:
  import reverb
except ImportError as error:
  raise ImportError(
      '`ReverbExperience`, parl-launch, parl-learn, parl-collect, '
      'parl-reverb-server and parl-evaluate --follow need Reverb: pip install '
      '"dm-reverb>=0.14,<0.15" on Linux x86-64 with Python 3.10 or 3.11. '
      'parl-train with `MemoryExperience` does not need it.'
  ) from error

__all__ = ['reverb']
