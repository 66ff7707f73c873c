"""Models as a service: an OpenAI-compatible API that says which weights answered."""

from workbench.serving.limits import Limits
from workbench.serving.server import make_app, make_service, serve

__all__ = ["Limits", "make_app", "make_service", "serve"]
