"""HTTP, beside the daemon and in its process: releases in, and health.

| module        | what                                                                   |
|---------------|------------------------------------------------------------------------|
| `listening`   | the address, and a thread that serves it while the daemon runs         |
| `application` | what there is to ask for, and how errors are said                      |
| `releases`    | `POST /v1/releases`: from a request to the journal                     |
| `credentials` | who may tell                                                           |
| `incoming`    | a body read within its limits, JSON checked against a model            |
| `told`        | a release as people and pipelines tell it                              |
| `github`      | a deployment as GitHub tells it                                        |
"""

from __future__ import annotations

from watcher.server.application import application
from watcher.server.listening import serving

__all__ = ["application", "serving"]
