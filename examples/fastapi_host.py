"""A FastAPI application with Tasktrail inside: MCP at /mcp, its own routes and lifespan beside it.

    export BETTER_AUTH_SECRET="$(openssl rand -base64 32)"
    uvicorn --app-dir examples fastapi_host:app

Set DATABASE_URL for a Postgres of yours; without it the embedded one is started.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from mcp_server.http import mount


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """What your application does when it starts and when it ends; Tasktrail does not mind."""
    app.state.greeting = "Hello"
    yield


app = FastAPI(title="Your application", lifespan=lifespan)
mount(app)


@app.get("/")
async def home() -> dict[str, str]:
    """One of your own routes."""
    return {"greeting": f"{app.state.greeting} from beside /mcp"}
