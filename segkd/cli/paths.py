"""Where `segkd train` may write."""

from segkd.files import writable_folder

__all__ = ["writable_folder"]
