"""Telemetry: what a scrape says against what the partitioner says; the dashboard against what is exported."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

import itp
from itp import telemetry
from itp_overhead import four_streams

pytestmark = pytest.mark.core

ROOT = Path(__file__).parents[2]


def scraped(registry):
    """{(sample, labels without the partitioner's): value} by partitioner."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            name = labels.pop("partitioner")
            key = sample.name, *sorted(labels.items())
            assert key not in found.setdefault(name, {})
            found[name][key] = sample.value
    return found


def worked(p, n=50):
    """The decisions made; those without an outcome are in flight as long as somebody holds them."""
    four_streams(p)
    made = []
    p.set_stream_up(3, False)
    for k in range(n):
        d = p.partition_task(itp.Task(str(k), 10**6, deadline_s=1e-9 if k % 10 == 0 else None))
        made.append(d)
        if k % 5:
            p.report_outcome(d, 100.0, d.expected_time_s * (1 + k / n), k % 4 > 0, retransmitted_bytes=k)
    return made


def test_a_scrape_agrees_with_the_metrics():
    with itp.TaskPartitioner("dqn_v1", epsilon=0.2, seed=1) as p:
        made = worked(p)
        m = p.metrics()
        found = scraped(telemetry.registry(p))["default"]
        by_source = {
            source: found["itp_decisions_total", ("source", source)]
            for source in ("model", "guard", "heuristic")
        }
        assert by_source == {"model": 50 - m.guarded_decisions, "guard": m.guarded_decisions, "heuristic": 0}
        assert found["itp_decisions_explored_total",] == m.explored_decisions > 0
        assert found["itp_decisions_infeasible_total",] == m.infeasible_decisions == 5
        assert found["itp_decided_bytes_total",] == m.total_bytes == 50 * 10**6
        assert found["itp_outcomes_total", ("success", "true")] == m.total_successes
        assert found["itp_outcomes_total", ("success", "false")] == m.total_outcomes - m.total_successes > 0
        assert found["itp_retransmitted_bytes_total",] == m.retransmitted_bytes > 0
        assert found["itp_tasks_in_flight",] == m.in_flight == 10 == sum(not d.reported for d in made)
        assert found["itp_reward_mean",] == pytest.approx(m.avg_reward)
        assert found["itp_expected_time_log_error_mean",] == pytest.approx(m.expected_time_error)
        assert found["itp_decision_seconds_count",] == 50
        assert found["itp_decision_seconds_sum",] == pytest.approx(m.decision_seconds_sum)
        buckets = [(float(k[1][1]), v) for k, v in found.items() if k[0] == "itp_decision_seconds_bucket"]
        assert sorted(buckets) == buckets
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        exact = dict(m.decision_seconds_buckets)
        for edge, count in buckets:
            assert exact[min(exact, key=lambda e, edge=edge: abs(e - edge) if e != edge else 0)] == count
        bins = [v for k, v in found.items() if k[0] == "itp_confidence_outcomes_total"]
        assert len(bins) == 10
        assert sum(bins) == m.total_outcomes
        assert found["itp_model_info", ("engine", "native"), ("version", m.model_version)] == 1
        for i in range(4):
            label = ("stream", str(i))
            stream = p.network.stream(i)
            assert found["itp_stream_up", label] == stream["up"]
            assert found["itp_stream_bandwidth_bytes_per_second", label] == stream["bandwidth_mbps"] * 125_000
            assert found["itp_stream_latency_seconds", label] == pytest.approx(stream["latency_ms"] / 1000)
            assert found["itp_stream_success_ratio", label] == stream["success_rate"]
            assert found["itp_stream_queued_bytes", label] >= 0
        assert found["itp_stream_up", ("stream", "3")] == 0


def test_several_partitioners_and_one_that_closes():
    with itp.TaskPartitioner() as a, itp.TaskPartitioner(n_streams=7) as b:
        registry = telemetry.registry({"a": a, "b": b})
        worked(a)
        found = scraped(registry)
        assert found["a"]["itp_decisions_total", ("source", "heuristic")] == 50
        assert found["b"]["itp_decisions_total", ("source", "heuristic")] == 0
        assert ("itp_stream_up", ("stream", "6")) in found["b"]
        assert ("itp_reward_mean",) not in found["b"]  # no mean of nothing
        assert found["b"]["itp_model_info", ("engine", "heuristic"), ("version", "none")] == 1
        b.close()
        assert set(scraped(registry)) == {"a"}
    assert scraped(registry) == {}


def test_one_that_closes_during_a_scrape_is_left_out_whole(monkeypatch):
    with itp.TaskPartitioner() as p:
        registry = telemetry.registry(p)
        metrics = p.metrics

        def last_metrics(_):
            m = metrics()
            p.close()
            return m

        monkeypatch.setattr(itp.TaskPartitioner, "metrics", last_metrics)
        assert scraped(registry) == {}


def test_a_registry_refuses_the_same_names_twice():
    with itp.TaskPartitioner() as p:
        registry = telemetry.registry(p)
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            registry.register(telemetry.Collector(p))


@pytest.mark.parametrize("wrong", [3, None, {"a": 3}])
def test_what_is_no_partitioner(wrong):
    with pytest.raises(TypeError, match="partitioners must be"):
        telemetry.Collector(wrong)


def test_names_and_ports_that_cannot_be():
    with itp.TaskPartitioner() as p:
        with pytest.raises(TypeError, match="a mapping of names"):
            telemetry.Collector({1: p})
        with pytest.raises(ValueError, match="port = -1: expected 0 to 65535"):
            telemetry.Server(p, port=-1)


def test_bytes_queued_are_those_of_the_chunks():
    with itp.TaskPartitioner() as p:
        for i in range(4):
            p.update_stream(i, bandwidth_mbps=1e-3, latency_ms=10)  # too slow to serve any before the scrape
        made = [p.partition_task(itp.Task(str(k), 10**7)) for k in range(9)]
        chunks = [
            sum(dict(zip(d.stream_ids, d.chunk_sizes, strict=True)).get(i, 0) for d in made) for i in range(4)
        ]
        found = scraped(telemetry.registry(p))["default"]
        queued = [found["itp_stream_queued_bytes", ("stream", str(i))] for i in range(4)]
        assert queued == pytest.approx(chunks, rel=1e-3)


def test_scrapes_while_others_decide():
    stop = threading.Event()
    with itp.TaskPartitioner("dqn_v1") as p:
        registry = telemetry.registry(p)

        def decide():
            while not stop.is_set():
                p.report_outcome(p.partition_task(itp.Task("t", 10**6)), 1.0, 1.0, True)

        threads = [threading.Thread(target=decide) for _ in range(4)]
        for t in threads:
            t.start()
        seen = [scraped(registry)["default"] for _ in range(20)]
        stop.set()
        for t in threads:
            t.join()
        counts = [found["itp_decision_seconds_count",] for found in seen]
        assert counts == sorted(counts)
        total = scraped(registry)["default"]
        assert total["itp_decision_seconds_count",] == total["itp_outcomes_total", ("success", "true")]


def test_the_server_answers_and_ends():
    with itp.TaskPartitioner() as p:
        worked(p)
        with telemetry.Server(p, port=0) as server:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as answer:
                text = answer.read().decode()
            assert "itp_decisions_total" in text
        server.close()
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30)


MULTIPROCESS = """
import logging, sys, urllib.request
import prometheus_client
from prometheus_client.multiprocess import MultiProcessCollector
import itp
from itp import telemetry

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
with itp.TaskPartitioner() as p:
    with telemetry.Server(p, port=0) as server:
        url = f"http://127.0.0.1:{server.port}/metrics"
        print("served", b"itp_decisions_total" in urllib.request.urlopen(url, timeout=30).read())
    prometheus_client.REGISTRY.register(telemetry.Collector(p))
    shared = prometheus_client.CollectorRegistry()
    MultiProcessCollector(shared)
    print("shared", b"itp_" in prometheus_client.generate_latest(shared))
"""


def test_the_multiprocess_mode_is_warned_of_and_a_server_works_in_it(tmp_path):
    command = [sys.executable, "-c", MULTIPROCESS]
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    served, warning, shared = done.stdout.splitlines()
    assert (served, shared) == ("served True", "shared False")
    assert re.match(r"WARNING PROMETHEUS_MULTIPROC_DIR .* itp\.telemetry\.Server in each process", warning)


def test_no_warning_without_the_multiprocess_mode(monkeypatch, caplog):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with itp.TaskPartitioner() as p:
        telemetry.registry(p)
        assert caplog.records == []
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "anywhere")
        telemetry.registry(p)
        assert [record.name for record in caplog.records] == ["itp"]


def test_without_prometheus_client():
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import itp\nfrom itp import telemetry\n"
        "try: telemetry.registry(itp.TaskPartitioner())\n"
        "except itp.MissingExtraError as error: print(error)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'itp[metrics]'" in done.stdout
    light = "import itp, sys; assert not {'prometheus_client', 'itp.telemetry'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], timeout=60, check=True)


def test_the_dashboard_shows_what_is_exported():
    dashboard = json.loads((ROOT / "docs/grafana/itp.json").read_text())
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    used = {name for text in expressions for name in re.findall(r"\bitp_\w+", text)}
    with itp.TaskPartitioner("dqn_v1") as p:
        worked(p)
        exported = {key[0] for key in scraped(telemetry.registry(p))["default"]}
    assert used <= exported
    # A family that nobody looks at would not be worth its scrape.
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported} == shown
    documented = (ROOT / "docs/telemetry.md").read_text()
    assert all(f"`{name}`" in documented for name in shown)


def example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_opentelemetry_example():
    metrics = pytest.importorskip("opentelemetry.sdk.metrics")
    reader = metrics.export.InMemoryMetricReader()
    provider = metrics.MeterProvider([reader])
    with itp.TaskPartitioner() as p:
        worked(p)
        example("opentelemetry_metrics").instrument(provider.get_meter("itp"), p, "here")
        (resource,) = reader.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        found = {
            (metric.name, *sorted(map(str, point.attributes.values()))): point.value
            for metric in scope.metrics
            for point in metric.data.data_points
        }
        m = p.metrics()
        assert found["itp.decisions", "here", "heuristic"] == 50
        assert found["itp.outcomes", "True", "here"] == m.total_successes
        assert found["itp.decisions.time", "here"] == pytest.approx(m.decision_seconds_sum)
        estimate_mbps = p.network.stream(0)["bandwidth_mbps"]
        assert found["itp.stream.bandwidth", "0", "here"] == pytest.approx(125_000 * estimate_mbps)
        assert found["itp.tasks.in_flight", "here"] == m.in_flight
    provider.shutdown()


def test_the_prometheus_example():
    command = [sys.executable, ROOT / "examples/prometheus_metrics.py", "--port", "0", "--seconds", "0.3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.match(r"http://127.0.0.1:\d+/metrics", done.stdout)
    assert done.stderr == ""
