"""The foreign programs, in exactly these versions, installed on demand into .interop/."""

import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".interop"
NPM = (
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


def install_npm() -> Path:
    """Install the programs of npm and return the folder of their commands.

    Raises: subprocess.CalledProcessError; FileNotFoundError, without npm.
    """
    commands = FOLDER / "node_modules" / ".bin"
    stamp = FOLDER / "npm.installed"
    if not _is_current(stamp, NPM):
        FOLDER.mkdir(exist_ok=True)
        options = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
        subprocess.run(["npm", "install", *options, *NPM], cwd=FOLDER, check=True)
        stamp.write_text("\n".join(NPM))
    return commands


def install_venv(name: str) -> Path:
    """Install one of VENVS and return its Python. Raises: subprocess.CalledProcessError."""
    folder = FOLDER / name
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    stamp = folder / "installed"
    if not _is_current(stamp, (VENVS[name],)):
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", VENVS[name]], check=True)
        stamp.write_text(VENVS[name])
    return python


def _is_current(stamp: Path, packages: tuple[str, ...]) -> bool:
    return stamp.exists() and stamp.read_text() == "\n".join(packages)
