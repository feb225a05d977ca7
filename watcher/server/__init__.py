"""HTTP, beside the daemon and in its process: releases in, metrics and health.

| module        | what                                                                   |
|---------------|------------------------------------------------------------------------|
| `listening`   | the address, and a thread that serves it while the daemon runs         |
| `application` | what there is to ask for, and how errors are said                      |
| `metrics`     | `GET /metrics`: what the daemon does, and what its journal holds       |
| `readiness`   | `GET /readyz`: whether the daemon does what it is for                  |
| `page`        | `GET /`: releases, one of them, one stream of it, for people           |
| `charts`      | their pictures                                                         |
| `api`         | `GET /v1/releases`: the same for programs                              |
| `openapi`     | `GET /openapi.json`: what there is to ask for                          |
| `slash`, `clicks` | `POST /v1/slack`: commands and clicks, as Slack sends them            |
| `socket_mode` | the same without an address: Slack's Socket Mode                       |
| `releases`    | `POST /v1/releases`: from a request to the journal                     |
| `credentials` | who may tell                                                           |
| `incoming`    | a body read within its limits, JSON checked against a model            |
| `told`        | a release as people and pipelines tell it                              |
| `github`      | a deployment as GitHub tells it                                        |
"""

from __future__ import annotations

from watcher.server.application import application
from watcher.server.listening import serving
from watcher.server.metrics import Metrics

__all__ = ["Metrics", "application", "serving"]
