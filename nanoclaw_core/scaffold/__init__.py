"""Writes new plugin packages out of the templates beside this module."""

from typing import Final

#: What can be made.
KINDS: Final = ("channel", "provider", "action", "mount-policy")
