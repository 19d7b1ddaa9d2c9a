"""The names of this folder's conftest under a name of their own: `import conftest` would find whichever came first."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any


def _conftest() -> Any:
    path = Path(__file__).with_name("conftest.py")
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path):
            return module
    spec = importlib.util.spec_from_file_location("dashboard_conftest", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dashboard_conftest"] = module
    spec.loader.exec_module(module)
    return module


_module = _conftest()
AXE, NOW_S, Open, Serve, Served = _module.AXE, _module.NOW_S, _module.Open, _module.Serve, _module.Served
serving, until = _module.serving, _module.until
