"""Where the application keeps its engine."""

from aiohttp import web

from stand_in.engine import Engine

ENGINE = web.AppKey("engine", Engine)
