"""Training of set models: what is learnt, from what, and that runs end in the same bits."""

from __future__ import annotations

import io
import json
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs PyTorch: pip install 'itp[train]'")
for package in ("onnx", "matplotlib", "rich"):
    pytest.importorskip(package, reason=f"the trainer needs {package}: pip install 'itp[train]'")

from rich.console import Console  # noqa: E402

from itp import Simulator  # noqa: E402 (after the check for PyTorch)
from itp.models.load import load_model  # noqa: E402
from itp.sim.outcomes import completion_times, log_slowdowns  # noqa: E402
from itp_training import checkpoint  # noqa: E402
from itp_training.cli import main  # noqa: E402
from itp_training.config import TEACHERS  # noqa: E402
from itp_training.display import Panel  # noqa: E402
from itp_training.errors import CheckpointError, ConfigError, TrainingError  # noqa: E402
from itp_training.progress import Interrupted, Moment  # noqa: E402
from itp_training.sets import session  # noqa: E402
from itp_training.sets.collect import (  # noqa: E402
    Part,
    SetCollector,
    draw_preferences,
    horizons,
    mixed_cost,
    returns,
)
from itp_training.sets.config import SetConfig  # noqa: E402
from itp_training.sets.learner import SetLearner, set_loss  # noqa: E402
from itp_training.sets.network import SetNetwork  # noqa: E402
from itp_training.sets.replay import Decisions, Replay  # noqa: E402
from itp_training.sets.support import Support  # noqa: E402
from itp_training.sets.trainer import SetRound, SetTrainer  # noqa: E402
from itp_training.sets.worlds import training_scenario  # noqa: E402

# TensorBoard's and matplotlib's own.
pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")

TIMEOUT_S = 120
TIMES = ("collect_s", "learn_s")
SMALL: dict[str, Any] = {
    "rounds": 3,
    "streams": (2, 4),
    "envs": (3, 4),
    "batch_weights": (1.0, 1.0),
    "tasks": 15,
    "look_ahead_tasks": 5,
    "look_ahead_most": 10,
    "updates": 30,
    "warm_up": 2,
    "batch_size": 16,
    "widths": (16, 16, 16, 16),
    "validation_envs": 4,
    "calibration_envs": 6,
}
ITP = [sys.executable, "-c", "import sys; from itp.cli import main; sys.exit(main())"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Of PyTorch, as the command has it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(**changes: Any) -> SetConfig:
    return SetConfig(**{**SMALL, **changes})


def text(value: object) -> str:
    return ",".join(map(text, value)) if isinstance(value, tuple) else str(value)


def options(**changes: Any) -> list[str]:
    settings = [f"--set={name}={text(value)}" for name, value in {**SMALL, **changes}.items()]
    return ["--schema", "2", *settings]


def decisions(count: int = 40, n: int = 4, seed: int = 0) -> Decisions:
    """Of random episodes, looked ahead from by the rule."""
    config = small(streams=(n,), envs=(4,), batch_weights=(1.0,), seed=seed, look_ahead_share=1.0)
    found, _ = SetCollector(config, 1).collect(0, Part(n, "fifo"), None)
    return found.take(np.arange(count) % len(found))


# --- configuration ---


@pytest.mark.parametrize("config", [SetConfig(), small(load=(0.5, 0.5), learning_rate_over="round")])
def test_round_trip(config: SetConfig) -> None:
    assert SetConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    texts = {field.name: text(getattr(config, field.name)) for field in fields(config)}
    assert replace(SetConfig(), **SetConfig.parse(texts)) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("rounds", 0),
        ("streams", ()),
        ("streams", (4, 2)),
        ("streams", (1, 4)),
        ("streams", (4, 17)),
        ("envs", (3,)),
        ("envs", (3, 0)),
        ("batch_weights", (1.0, 0.0)),
        ("widths", (16, 16, 16)),
        ("widths", (16, 16, 16, 24)),
        ("widths", (16, 16, 16, 4096)),
        ("load", (1.1, 0.1)),
        ("typical", 0.8),
        ("balanced", 1.5),
        ("look_ahead_share", 0.0),
        ("bulk_weight", float("nan")),
        ("idle_cap", 0.5),
        ("learning_rate_over", "week"),
        ("scenarios", ()),
    ],
)
def test_wrong_settings_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        small(**{name: value})


def test_the_documentation_has_every_setting_and_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs/tuning.md").read_text()
    section = page.partition("## Set models\n")[2].partition("\n## ")[0]
    shown: dict[str, str] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            _, names, values, *_ = line.replace("`", "").split("|")
            # A row of several settings has several values; lists have no spaces.
            shown |= dict(zip(names.strip().split(", "), values.strip().split(", "), strict=False))
    defaults = SetConfig.defaults()
    assert sorted(shown) == sorted(defaults)
    for name, value in defaults.items():
        if name != "scenarios":
            assert SetConfig.parse({name: shown[name]})[name] == value, name


def test_updates_and_learning_rate_over_the_run_and_over_each_round() -> None:
    for over, ends in (("run", [20 / 30, 10 / 30, 0.02]), ("round", [0.02, 0.02, 0.02])):
        config = small(learning_rate=1e-3, learning_rate_over=over, warm_up=0)
        assert [config.updates_of(number) for number in range(3)] == [(0, 10), (10, 20), (20, 30)]
        learner = SetLearner(config)
        rates = []
        for updates in range(30):
            learner.updates = updates
            rates.append(learner.learning_rate)
        assert rates[0] == 1e-3
        # Of the last update of each round, one step before the end of the fall.
        step = 1 / 30 if over == "run" else 1 / 10
        expected = [max(end + step * (end != 0.02), 0.02) * 1e-3 for end in ends]
        if over == "round":
            expected = [1e-4] * 3
        else:
            expected[2] = step * 1e-3
        assert rates[9::10] == pytest.approx(expected)


# --- network ---


@pytest.mark.parametrize(("n", "scenario"), [(4, "flaky"), (8, "anything"), (16, "anything")])
def test_the_compiled_network_answers_as_the_trained_one(n: int, scenario: str) -> None:
    config = small(
        scenarios=(scenario,), streams=(n,), envs=(24,), batch_weights=(1.0,), widths=(32, 16, 48, 16)
    )
    torch.manual_seed(n)
    network = SetNetwork(config.widths)
    torch.nn.init.normal_(network.out.weight)
    net = network.packed()
    sim = Simulator(training_scenario(config, n, "srpt"), seeds=np.arange(24))
    fewer = compared = 0
    for _ in range(12):
        found = sim.features()
        for env in range(24):
            k = int((found.members[env] > 0).sum())
            if k < 2:
                continue
            up = int(np.bitwise_or.reduce(found.members[env])).bit_length()
            fewer += up < n
            one = Decisions(
                *(
                    getattr(found, name)[env : env + 1]
                    for name in ("streams", "context", "candidates", "members")
                ),
                returns=np.zeros_like(found.members[env : env + 1], dtype=np.float32),
            )
            with torch.no_grad():
                wanted = network(*one.tensors()[:4])[0, :k].numpy()
            got = net(one.streams[:, :up], one.context, one.candidates[:, :k], one.members[:, :k])[0]
            assert np.abs(got - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())
            compared += 1
        sim.step_masks(*sim.decide_sets(net))
    assert compared > 200
    assert n != 4 or fewer, "no stream was ever down"


def test_the_network_knows_no_order_of_streams() -> None:
    network = SetNetwork((32, 16, 32, 16))
    torch.nn.init.normal_(network.out.weight)
    streams, context, candidates, members, _ = decisions(20).tensors()
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        values = network(streams, context, candidates, members)
        turned = network(streams[:, order], context, candidates, members[:, :, order])
    assert torch.allclose(values, turned, atol=1e-5)


# --- what is learnt ---


def test_costs_are_mixed_centred_and_scaled_down() -> None:
    config = small(bulk_weight=0.1, regret_cap=3.0)
    slowdowns = np.array([[1.0, 2.0, 3.0, np.nan], [0.0, 60.0, 0.0, 60.0]])
    times = np.array([[10.0, 0.0, 20.0, np.nan], [0.0, 0.0, 0.0, 0.0]])
    cost = mixed_cost(config, np.array([0.5, 0.0]), slowdowns, times)
    assert cost[0, :3] == pytest.approx([1.0, 1.0, 2.5])
    found = returns(config, cost)
    assert found[0, :3] == pytest.approx([0.5, 0.5, -1.0])
    assert np.isnan(found[0, 3])
    # The mean candidate is 30 above the best one: ten times the cap.
    assert found[1] == pytest.approx([3.0, -3.0, 3.0, -3.0])


def test_look_ahead_returns_what_happens_in_copies_of_the_world() -> None:
    """The first round's returns, against episodes that are branched and continued step by step."""
    config = small(
        scenarios=("heterogeneous",), streams=(4,), envs=(3,), batch_weights=(1.0,), look_ahead_reach=0.0
    )
    for order in ("fifo", "srpt"):
        scenario = training_scenario(config, 4, order)
        sim = Simulator(scenario, seeds=np.arange(3))
        arrivals_per_s = scenario.sample(range(3)).workload["arrivals_per_s"]
        for _ in range(6):
            sim.step_masks(*sim.choose(TEACHERS[order]))
        found = sim.look_ahead_costs(None, horizons(config, sim, arrivals_per_s))
        slowdowns, times_s = found.log_slowdowns, found.times_s
        for env in range(3):
            masks = found.masks[env][found.masks[env] > 0]
            copies = sim.branch(np.full(len(masks), env), config.look_ahead_tasks)
            copies.step_masks(masks, np.zeros(len(masks), np.int32))
            totals = np.zeros((2, len(masks)))
            while True:
                done = copies.completed()
                totals[0] += np.bincount(done["env"], log_slowdowns(done), len(masks))
                totals[1] += np.bincount(done["env"], completion_times(done), len(masks))
                if copies.done.all():
                    break
                copies.step_masks(*copies.choose(TEACHERS[order]))
            assert slowdowns[env, : len(masks)] == pytest.approx(totals[0])
            assert times_s[env, : len(masks)] == pytest.approx(totals[1])
            assert np.isnan(slowdowns[env, len(masks) :]).all()


def test_look_ahead_goes_further_where_many_arrive_meanwhile() -> None:
    config = small(look_ahead_tasks=5, look_ahead_most=50, look_ahead_reach=3.0, load=(0.01, 1.1))
    scenario = training_scenario(config, 4, "fifo")
    sim = Simulator(scenario, seeds=np.arange(64))
    arrivals_per_s = scenario.sample(range(64)).workload["arrivals_per_s"]
    for _ in range(10):
        sim.step_masks(*sim.choose("single_best"))
    found = horizons(config, sim, arrivals_per_s)
    meanwhile = 3.0 * sim.expected_times(np.full((64, 1), 15, np.uint32))[:, 0] * arrivals_per_s
    assert (found[meanwhile < 5] == 5).all()
    assert (found[meanwhile >= 50] == 50).all()
    assert ((found > 5) & (found < 50)).any()


def test_preferences_are_drawn_in_their_shares() -> None:
    found = draw_preferences(small(balanced=0.4), 40_000, np.random.default_rng(0))
    for value, share in ((0.0, 0.3), (0.4, 0.25), (1.0, 0.2)):
        assert (found == value).mean() == pytest.approx(share, abs=0.01)
    rest = found[~np.isin(found, (0.0, 0.4, 1.0))]
    assert np.quantile(rest, (0.25, 0.5, 0.75)) == pytest.approx([0.25, 0.5, 0.75], abs=0.02)


def test_the_loss() -> None:
    """Against its definition, in NumPy."""
    config = small(huber_delta=0.5, policy_weight=0.7, temperature=0.2)
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6, 5)).astype(np.float32)
    wanted = rng.normal(size=(6, 5)).astype(np.float32)
    wanted[2, 3:] = np.nan
    wanted -= np.nanmean(wanted, axis=1, keepdims=True)
    total = 0.0
    for q, y in zip(values, wanted, strict=True):
        there = ~np.isnan(y)
        q, y = q[there].astype(float), y[there].astype(float)
        error = np.abs(q - q.mean() - y)
        huber = np.where(error < 0.5, 0.5 * error**2, 0.5 * (error - 0.25))
        policy = np.exp(q / 0.2 - (q / 0.2).max())
        policy /= policy.sum()
        total += huber.mean() - 0.7 * (policy * y).sum()
    found = set_loss(config, torch.from_numpy(values), torch.from_numpy(wanted))
    assert float(found) == pytest.approx(total / 6, rel=1e-5)


def test_learning_on_fixed_decisions_lowers_the_loss() -> None:
    learner = SetLearner(small(updates=150, learning_rate=3e-3, rounds=1, widths=(32, 16, 32, 16)))
    learner.replay.store(0, decisions(60))
    losses = [learner.update() for _ in range(150)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    learner = SetLearner(small())
    wrong = decisions(20)
    wrong.returns[:, 0] = np.inf
    learner.replay.store(0, wrong)
    before = [p.clone() for p in learner.network.parameters()]
    with pytest.raises(TrainingError, match="the loss of update 1 is"):
        learner.update()
    assert all(torch.equal(a, b) for a, b in zip(before, learner.network.parameters(), strict=True))


def test_replay_keeps_the_last_rounds_of_each_number_of_streams() -> None:
    replay = Replay(2)
    parts = {number: decisions(8, seed=number) for number in range(4)}
    for number, part in parts.items():
        replay.store(number, part)
    replay.store(3, decisions(5, n=2))
    kept = replay.of(4)
    assert kept is not None
    assert np.array_equal(kept.returns, np.concatenate([parts[2].returns, parts[3].returns]), equal_nan=True)
    assert replay.of(8) is None
    assert len(replay) == 21
    other = Replay(2)
    other.load_state_dict(replay.state_dict())
    for n in (2, 4):
        mine, theirs = replay.of(n), other.of(n)
        assert mine is not None
        assert theirs is not None
        for field in fields(Decisions):
            assert np.array_equal(getattr(mine, field.name), getattr(theirs, field.name), equal_nan=True)
            assert getattr(theirs, field.name).dtype == getattr(mine, field.name).dtype


def test_support_spans_what_was_seen_and_no_padding() -> None:
    support = Support()
    parts = [decisions(30, seed=seed) for seed in (0, 1)]
    for part in parts:
        support.widen(part)
    found = support.as_dict()
    low, high = np.array(found["context"]).T
    contexts = np.concatenate([part.context for part in parts])
    assert low == pytest.approx(contexts.min(axis=0))
    assert high == pytest.approx(contexts.max(axis=0))
    # A share of all streams is never 0, as padding is.
    assert found["candidates"][2][0] > 0.0


# --- episodes ---


def test_parts_are_the_same_on_any_threads_and_in_any_order() -> None:
    config = small(envs=(5, 6))
    network = SetNetwork(config.widths)
    torch.nn.init.normal_(network.out.weight)
    net = network.packed()
    one, many = SetCollector(config, 1), SetCollector(config, 3)
    many.collect(0, Part(2, "fifo"), net)
    for part in (Part(4, "srpt"), Part(2, "fifo")):
        mine, slow = one.collect(1, part, net)
        theirs, other_slow = many.collect(1, part, net)
        assert np.array_equal(slow, other_slow)
        for field in fields(Decisions):
            a, b = getattr(mine, field.name), getattr(theirs, field.name)
            assert np.array_equal(a, b, equal_nan=True), field.name
    assert mine.candidates.shape[1] == 3
    assert np.nansum(mine.returns, axis=1) == pytest.approx(np.zeros(len(mine)), abs=1e-4)


def test_every_number_of_streams_has_worlds() -> None:
    config = SetConfig()
    for n in config.streams:
        sim = Simulator(training_scenario(config, n, "fifo"), seeds=np.arange(4))
        assert sim.n_streams == n
    with pytest.raises(TrainingError, match="no scenario has 3 paths"):
        training_scenario(small(scenarios=("lossy",)), 3, "fifo")


# --- runs ---


def weights_of(trainer: SetTrainer) -> list[Any]:
    return [p.detach() for p in trainer.learner.network.parameters()]


def test_same_seed_same_bits() -> None:
    def weights(seed: int, threads: int) -> list[Any]:
        trainer = SetTrainer(small(seed=seed), threads=threads)
        trainer.run()
        return weights_of(trainer)

    first, second, other = weights(3, 1), weights(3, 2), weights(4, 1)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_stopped_anywhere_and_resumed_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole = SetTrainer(small())
    whole.run()
    broken = SetTrainer(small(), tmp_path)
    stops = 0
    while len(broken.rounds) < broken.n_rounds:
        patience = random.randint(1, 40)

        def tick(_: Moment, broken: SetTrainer = broken) -> None:
            nonlocal patience
            patience -= 1
            broken.stop = patience <= 0

        try:
            broken.run(tick)
        except Interrupted:
            stops += 1
            # A part that was begun is played again: let it be finished now and then.
            broken = SetTrainer.resume(tmp_path / "checkpoint.pt")
    assert stops
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(broken), strict=True))
    assert broken.support.as_dict() == whole.support.as_dict()
    mine, theirs = (
        [{k: v for k, v in done.as_dict().items() if k not in TIMES} for done in trainer.rounds]
        for trainer in (whole, broken)
    )
    assert mine == theirs


def test_training_beats_the_rules_and_knows_what_is_preferred() -> None:
    config = SetConfig(
        rounds=2,
        streams=(4,),
        envs=(48,),
        batch_weights=(1.0,),
        scenarios=("heterogeneous",),
        load=(0.4, 0.9),
        tasks=80,
        look_ahead_most=30,
        updates=600,
        batch_size=128,
        widths=(32, 32, 32, 32),
    )
    trainer = SetTrainer(config, threads=2)
    trainer.run()
    done = trainer.rounds[-1]
    assert done.typical_slowdown < 0.9
    assert done.typical_slowdown < done.bulk_slowdown
    assert done.bulk_time < done.typical_time


# --- the command ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run that went through."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main([*options(), "--out", str(folder), "--quiet"]) == 0
    return folder


def test_a_run_leaves_its_files(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoint.pt", "set.onnx", "set.json", "curves.png", "tensorboard",
    }  # fmt: skip
    rounds = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [(done["round"], done["updates"]) for done in rounds] == [(1, 10), (2, 20), (3, 30)]
    config = json.loads((finished / "config.json").read_text())
    assert SetConfig.from_dict(config) == small()
    model = load_model(finished / "set.onnx")
    assert model.schema == 2
    assert model.metadata["training"]["config"] == config
    assert model.metadata["service_orders"] == ["fifo", "srpt"]
    assert model.metadata["calibration"]["time_ratio"]
    assert (model.preferences.typical, model.preferences.bulk) == (0.0, 1.0)
    assert model.cap.idle_factor == small().idle_cap
    trained = SetTrainer.resume(finished / "checkpoint.pt")
    assert trained.support.as_dict()["context"] == np.asarray(model.support.context, float).tolist()


def test_the_file_answers_as_the_network(finished: Path) -> None:
    network = SetTrainer.resume(finished / "checkpoint.pt").learner.network
    some = decisions(30)
    streams, context, candidates, members, _ = some.tensors()
    inputs = {"streams": streams, "context": context, "candidates": candidates, "members": members}
    model = load_model(finished / "set.onnx")
    found = model.session.run(["values"], {name: value.numpy() for name, value in inputs.items()})[0]
    with torch.no_grad():
        wanted = network(streams, context, candidates, members).numpy()
    there = some.members > 0
    assert np.abs(found - wanted)[there].max() < 1e-5


def test_the_panel_shows_ratios_and_speed(finished: Path) -> None:
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    rounds = [SetRound(**json.loads(line)) for line in lines]
    output = io.StringIO()
    panel = Panel(Console(file=output, force_terminal=True, width=80), rounds[:1], 3)
    with panel:
        panel.tick(Moment("collecting", 0.6, 100, 10))
        panel.finished(rounds)
    shown = output.getvalue()
    for done in rounds:
        assert f"{done.typical_slowdown:.3f}/{done.typical_time:.3f}" in shown
    assert "decisions/s" in shown
    assert "100%" in shown


def test_curves_show_every_preference(finished: Path) -> None:
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    rounds = [SetRound(**json.loads(line)) for line in lines]
    slowdown, mean_time, loss, _ = session.curves(rounds).axes
    for axes, measure in ((slowdown, "slowdown"), (mean_time, "time")):
        shown = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
        assert shown.pop("best simple rule") == [1.0, 1.0]
        assert shown == {
            name: [getattr(done, f"{name}_{measure}") for done in rounds]
            for name in ("typical", "balanced", "bulk")
        }
    assert list(loss.get_lines()[0].get_ydata()) == [done.loss for done in rounds]


def test_json_and_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = options(rounds=2, updates=10)
    assert main([*args, "--out", str(tmp_path / "run"), "--json", "--name", "mine"]) == 0
    *rounds, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert [done["round"] for done in rounds] == [1, 2]
    assert summary["model"] == str(tmp_path / "run" / "mine.onnx")
    assert (summary["interrupted"], summary["rounds"], summary["updates"]) == (False, 2, 10)
    assert summary["validation"] == rounds[-1]["validation"]


def test_stopped_it_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder, longer = tmp_path / "run", {"rounds": 8, "updates": 80}
    process = subprocess.Popen(
        [*ITP, "train", *options(**longer), "--threads", "1", "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end_s = time.monotonic() + TIMEOUT_S
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    _, said, command = err.strip().rpartition("to go on: itp ")
    assert said
    assert main(shlex.split(command)[1:]) == 0
    whole = SetTrainer(small(**longer))
    whole.run()
    resumed = SetTrainer.resume(folder / "checkpoint.pt")
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(resumed), strict=True))


def test_going_on_from_weights_begins_a_new_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (finished / "checkpoint.pt").read_bytes()
    args = ["--schema", "2", "--load-model", str(finished), "--seed", "1", "--set", "rounds=1", "--quiet"]
    assert main([*args, "--set", "learning_rate=1e-6"]) == 0
    folder = tmp_path / "runs/set-seed1-tuned1"
    config = json.loads((folder / "config.json").read_text())
    # All that is not said is as in the run it begins with, but for the teacher.
    assert (config["tasks"], config["teacher_rounds"]) == (SMALL["tasks"], 0)
    mine, theirs = (
        checkpoint.load(run / "checkpoint.pt", 2)["learner"]["network"] for run in (folder, finished)
    )
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-3) for name in theirs)
    assert (finished / "checkpoint.pt").read_bytes() == before


def test_a_run_of_the_other_schema_is_told_apart(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match="schema 2: use --schema 2"):
        checkpoint.load(finished / "checkpoint.pt")
    assert main(["--resume", "--out", str(finished)]) == 1
    assert "use --schema 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--episodes", "5"], "--episodes does not go with --schema 2"),
        (["--service-order", "srpt"], "one model serves both"),
        (["--preset", "mission"], "--preset does not go"),
        (["--experiences", "."], "records hold states of schema 1"),
        (["--save-freq", "5"], "a checkpoint follows every round"),
        (["--evaluate"], "itp evaluate --policy"),
        (["--device", "cuda"], "--device cuda does not go"),
        (["--set", "gamma=1"], "no such setting: gamma"),
        (["--set", "rounds=many"], "rounds = 'many'"),
        (["--scenario", "lossyy"], "did you mean lossy?"),
        (["--resume", "--out", "nowhere"], "no run in nowhere"),
    ],
)
def test_wrong_usage(
    args: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--schema", "2", *args]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_resuming_with_another_setting_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schema", "2", "--resume", "--out", str(finished), "--set", "tasks=99"]) == 2
    assert "tasks = 15, not 99" in capsys.readouterr().err
