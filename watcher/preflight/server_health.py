"""Which metrics say how a server is, and nothing of what users feel: by name, and whose names they are.

A name is of the server where an exporter or a client library of this table gives it, or where one of its words (between
underscores) says so. Whatever else there is may be what users feel: errors, durations, and what a business counts.
"""

from __future__ import annotations

import re

NAMES = (
    ("node_exporter", r"node_"),
    ("windows_exporter", r"windows_"),
    ("cAdvisor", r"(container|machine|cadvisor)_"),
    ("kube-state-metrics and the kubelet", r"(kube|kubelet|kubernetes|apiserver|etcd)_"),
    ("Prometheus itself", r"(up|scrape_\w+|prometheus_\w+)$"),
    ("every client library", r"process_(cpu|open_fds|max_fds|virtual_memory|resident_memory|heap|start_time|uptime)"),
    ("Micrometer and OpenTelemetry", r"process_(files|threads|memory|disk|network|paging|context_switches)"),
    ("client_golang", r"go_(goroutines|threads|info|gc|memstats|sched|cpu|sync|memory|cgo|godebug)"),
    ("client_java and Micrometer", r"(jvm|jdbc|hikaricp|tomcat|jetty|executor)_"),
    ("client_python", r"python_"),
    ("prom-client", r"nodejs_"),
    ("OpenTelemetry host metrics", r"system_(cpu|memory|disk|filesystem|network|paging|processes|load|uptime)"),
)  # fmt: skip
"""Whose names they are, and what the names begin with."""

WORDS = frozenset(
    {
        "cpu", "memory", "mem", "rss", "heap", "swap", "disk", "filesystem", "inodes", "iops", "load1", "load5",
        "load15", "loadavg", "gc", "goroutines", "fds", "restarts", "oom", "uptime",
    }
)  # fmt: skip
"""Words that speak of a machine wherever they stand in a name."""

PHRASES = re.compile(
    r"load_average|file_descriptors|open_files|garbage_collection|thread_pool|connection_pool|threads$"
)
"""What two words say, and what ends in threads: that some are counted which began may be a forum's business."""


def of_server(metric: str) -> str | None:
    """Return why a metric is one of a server's health, for people; None where it may be what users feel.

    >>> of_server("node_cpu_seconds_total"), of_server("app_heap_bytes"), of_server("http_requests_total")
    ('node_exporter', 'heap', None)
    """
    for whose, begins in NAMES:
        if re.match(begins, metric):
            return whose
    name = re.sub(r"[.:]", "_", metric.lower())
    words = [word for word in name.split("_") if word in WORDS] + PHRASES.findall(name)
    return str(words[0]).replace("_", " ") if words else None
