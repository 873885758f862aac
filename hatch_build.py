"""Compiles the kernel into the wheel, and beside its sources for an editable install."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelHook(BuildHookInterface):
    """Without a compiler the wheel is one for all machines, and works in Python alone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # Run by its path: the package itself needs what is not installed yet.
        kernel = runpy.run_path(str(Path(self.root, "src", "trailhawk", "native", "build.py")))
        try:
            kernel["build"]()
        except kernel["NotBuiltError"] as error:
            self.app.display_warning(f"the kernel is not built, without it ingest is slower: {error}")
            return
        build_data["artifacts"].append(f"/{kernel['OBJECT'].relative_to(self.root).as_posix()}")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
