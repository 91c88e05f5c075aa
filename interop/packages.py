"""The foreign programs, in exactly these versions, installed on demand into .interop/."""

import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".interop"
COMMANDS = FOLDER / "node_modules" / ".bin"
NPM = "npm"
PROGRAMS = (
    "node@22.23.3",  # the inspector needs 22.19; this one is private to the folder
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/inspector@2.12.0",
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/client@2.4.0",
)
# folder -> what is installed into a virtual environment there; each needs an mcp of its own
VENVS = {
    "langchain": "langchain-mcp-adapters==0.3.2",
    "openai-agents": "openai-agents==0.24.0",
    "pydantic-ai": "pydantic-ai-slim[mcp]==2.68.0",
}


def install(needs: Iterable[str]) -> dict[str, str]:
    """Install what is needed (NPM, names of VENVS), and return what cannot be, with the reason."""
    FOLDER.mkdir(exist_ok=True)
    missing = {}
    for need in sorted(needs):
        try:
            _install_npm() if need == NPM else _install_venv(need)
        except FileNotFoundError:
            missing[need] = "there is no npm on this machine (it comes with Node.js)"
        except subprocess.CalledProcessError as failed:
            missing[need] = f"exit {failed.returncode} of: {' '.join(map(str, failed.cmd))}"
    return missing


def python(name: str) -> Path:
    """Return the Python of one of VENVS."""
    return FOLDER / name / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def _install_npm() -> None:
    stamp = FOLDER / "npm.installed"
    if not _is_current(stamp, PROGRAMS):
        options = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
        subprocess.run(["npm", "install", *options, *PROGRAMS], cwd=FOLDER, check=True)
        stamp.write_text("\n".join(PROGRAMS))


def _install_venv(name: str) -> None:
    stamp = FOLDER / name / "installed"
    if not _is_current(stamp, (VENVS[name],)):
        venv.create(FOLDER / name, with_pip=False, clear=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python(name))]
        quietly = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *quietly, VENVS[name]], check=True)
        stamp.write_text(VENVS[name])


def _is_current(stamp: Path, packages: tuple[str, ...]) -> bool:
    return stamp.exists() and stamp.read_text() == "\n".join(packages)
