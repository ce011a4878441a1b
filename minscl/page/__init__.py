"""The coder's page: coded notes to read, decide on and export. Read build.py first, then static/main.js."""

from minscl.page.build import page_html

__all__ = ["page_html"]
