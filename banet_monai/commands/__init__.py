"""The commands of ``banet``, one module each; :mod:`banet_monai.cli` puts them together."""

from __future__ import annotations

__all__: list[str] = []
