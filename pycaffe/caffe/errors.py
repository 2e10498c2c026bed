"""The one exception family of the engine."""

from __future__ import annotations

FETCH_AGAIN = "If it was downloaded, compare its size and checksum with the source's and fetch it again."


class CaffeError(RuntimeError):
    """Input that BVLC Caffe would abort on: a file, a net or a call that breaks a rule.

    The text names the file or the layer, what was found, the rule and the fix, and keeps the
    key words of Caffe's own message, which people search for. A ``RuntimeError``, so that
    ``except RuntimeError`` written for pycaffe still catches it.
    """
