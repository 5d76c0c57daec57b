"""REST interface and web page over one bundle."""

from mammoscope.service.app import create_app
from mammoscope.service.server import serve
from mammoscope.service.settings import ServiceSettings

__all__ = ["ServiceSettings", "create_app", "serve"]
