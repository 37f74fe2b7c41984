"""A scratch environment, into which new packages are installed as their authors do it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


class Environment:
    """A virtual environment of its own that also sees everything installed beside these tests. Nothing is downloaded."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.programs = folder / "bin"
        self.python = self.programs / "python"
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        script = f"#!{self.python}\nimport sys\nfrom nanoclaw_core.cli import main\nsys.exit(main())\n"
        (self.programs / "nanoclaw").write_text(script)
        (self.programs / "nanoclaw").chmod(0o755)
        self.variables = {
            "HOME": str(folder),
            "PATH": os.pathsep.join([str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "NANOCLAW_HOME": str(folder / "home"),
            "MYPY_CACHE_DIR": str(folder / "mypy"),
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # as pip reads it: without isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, command: str, folder: Path) -> str:
        """Run a line as a person types it into a shell, and return what it printed."""
        ran = subprocess.run(["sh", "-c", command], cwd=folder, env=self.variables, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout
