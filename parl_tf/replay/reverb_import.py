"""Reverb where it is installed; elsewhere one line that says how to get it."""

try:
  import reverb
except ImportError as error:
  raise ImportError(
      '`ReverbExperience`, parl-launch, parl-learn, parl-collect, '
      'parl-reverb-server and parl-evaluate --follow need Reverb: pip install '
      '"dm-reverb>=0.14,<0.15" on Linux x86-64 with Python 3.10 or 3.11. '
      'parl-train with `MemoryExperience` needs none.'
  ) from error

__all__ = ['reverb']
