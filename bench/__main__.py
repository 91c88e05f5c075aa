"""``python -m bench NAME``: one module for each benchmark, its ``main`` is the command."""

import typer

from bench import commit, peers, reads, rebuild, tools, users, verify

app = typer.Typer(
    name="python -m bench",
    help="Measure Tasktrail on this machine, with a Postgres of its own and durable commits.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("commit")(commit.main)
app.command("peers")(peers.main)
app.command("reads")(reads.main)
app.command("rebuild")(rebuild.main)
app.command("tools")(tools.main)
app.command("users")(users.main)
app.command("verify")(verify.main)


@app.callback()
def _several() -> None:
    """Keep typer from taking a single command for the whole program."""


if __name__ == "__main__":
    app()
