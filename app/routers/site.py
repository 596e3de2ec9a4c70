"""The routes for browsers: the web page and the documentation."""

from app.routers import manual, page

SITE = (page.router, manual.router)
