"""What is wrong with the arguments of a call, said without repeating any of them."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from events.errors import Code, Refused
from mcp_server.tools.arguments import CORRECT_IT
from mcp_server.tools.catalogue import Tool


def as_refusal(tool: Tool, error: ValidationError) -> Refused:
    """Return the first problem as a refusal that names the argument."""
    problem = _first(error.errors(include_url=False, include_input=False))
    path = [part for part in problem["loc"] if isinstance(part, int) or _is_name(tool, part)]
    if not path and problem["type"] in tool.arguments.model_fields:
        path = [problem["type"]]
    argument = ".".join(str(part) for part in path) or "arguments"
    if problem["type"] == "extra_forbidden":
        argument = _shown(str(problem["loc"][-1]))
        message = f"{tool.name} has no argument {argument}."
        known = ", ".join(tool.arguments.model_fields)
        return _invalid("invalid_argument", argument, message, f"It takes: {known}.")
    code = _code(argument, problem["type"])
    return _invalid(code, argument, f"{_sentence(argument, problem)}.", CORRECT_IT)


def _first(problems: Sequence[Any]) -> Any:
    """Return the first problem; of the alternatives of a union, the one that was probably meant:
    where the problem lies deeper, or is not the type itself."""
    same = [problem for problem in problems if problem["loc"][:1] == problems[0]["loc"][:1]]
    return max(same, key=lambda one: (len(one["loc"]), not one["type"].endswith("_type")))


def _is_name(tool: Tool, part: Any) -> bool:
    """Keep names of arguments; pydantic adds the names of the alternatives of a union."""
    inner = ("title", "description", "priority", "due", "tags")
    return part in tool.arguments.model_fields or part in inner


def _shown(name: str) -> str:
    """A name that the caller made up: cut, and only if it is printable."""
    return name[:64] if name.isprintable() and name.isascii() else "of that name"


def _code(argument: str, type_: str) -> Code:
    if argument == "role" and type_ != "missing":
        return "invalid_role"
    if argument == "content" and type_ == "blank":
        return "empty_content"
    return "invalid_argument"


_BEGINNINGS = re.compile("^(Value error, |String |Input |List )")
_COUNTED = re.compile(" after validation, not [0-9]+$")


def _sentence(argument: str, problem: Any) -> str:
    """Return what is wrong, with the argument's name in it, once."""
    if problem["type"] == "missing":
        return f"{argument} is required"
    text = _BEGINNINGS.sub("", str(problem["msg"]).rstrip(".")).replace("should", "must")
    text = _COUNTED.sub("", text)
    return text if re.search(rf"\b{re.escape(argument)}\b", text) else f"{argument}: {text}"


def _invalid(code: Code, argument: str, message: str, hint: str) -> Refused:
    return Refused(code, message, hint, {"argument": argument})
