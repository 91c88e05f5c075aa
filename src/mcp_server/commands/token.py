"""``tasktrail token``: a bearer token, alone on standard output."""

from typing import Annotated

import typer

from mcp_server import settings
from mcp_server.auth.identity import MAX_LIFETIME, SCOPES, check_user_id
from mcp_server.auth.issue import development_secret, issue, parse_ttl
from mcp_server.commands.arguments import shown


def token(
    user: Annotated[str, typer.Option(help="Whose token: its subject.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it may do; repeat for more. Without it: everything."),
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long it lives: 90s, 15m, 1h, 7d.")] = "1h",
) -> None:
    configured = settings.read()
    if configured.jwks_url is not None:
        raise settings.SettingsError(
            "With TASKTRAIL_JWKS_URL the issuer makes the tokens, and only it holds the key."
            " Ask it for one; or unset TASKTRAIL_JWKS_URL and set BETTER_AUTH_SECRET."
        )
    user_id, scopes, seconds = _user(user), _scopes(scope), _seconds(ttl)
    if configured.secret is not None:
        secret = configured.secret.get_secret_value().encode()
    else:
        secret = development_secret(configured.home)
    typer.echo(issue(secret, user_id, scopes, seconds, configured.issuer, configured.audience))


def _user(text: str) -> str:
    try:
        return check_user_id(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--user'") from None


def _scopes(given: list[str] | None) -> list[str] | None:
    if not given:
        return None
    words = [word for text in given for word in text.replace(",", " ").split()]
    unknown = [word for word in words if word not in SCOPES]
    if unknown or not words:
        which = f"{shown(unknown[0])} is no scope. " if unknown else ""
        problem = f"{which}There are: {', '.join(SCOPES)}"
        raise typer.BadParameter(problem, param_hint="'--scope'")
    return words


def _seconds(text: str) -> int:
    try:
        seconds = parse_ttl(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--ttl'") from None
    if seconds > MAX_LIFETIME:
        raise typer.BadParameter("must be at most 366d", param_hint="'--ttl'")
    return seconds
