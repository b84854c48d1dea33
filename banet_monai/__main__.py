"""``python -m banet_monai`` is ``banet``, where the package is there but not installed."""

from __future__ import annotations

from banet_monai.cli import main

if __name__ == "__main__":
    main()
