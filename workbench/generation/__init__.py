"""The generation engine of pages, API, benchmarks and fine-tuning: cache, batching, sampling."""

from workbench.generation.batch import Batch, end_tokens, write
from workbench.generation.engine import Engine, Generation
from workbench.generation.growing import Growing
from workbench.generation.request import Completion, Request, Scored, Token
from workbench.generation.sampling import Sampling

__all__ = [
    "Batch",
    "Completion",
    "Engine",
    "Generation",
    "Growing",
    "Request",
    "Sampling",
    "Scored",
    "Token",
    "end_tokens",
    "write",
]
