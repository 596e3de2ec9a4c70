"""What people look at in a browser: the page, and the documentation."""

from app.routers import manual, page

SITE = (page.router, manual.router)
