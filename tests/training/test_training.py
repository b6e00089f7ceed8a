"""The learner: what it is taught, how it learns, and what leaves it as a model file."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs PyTorch: pip install 'itp[train]'")

from itp import Simulator, policies  # noqa: E402 (after the check for PyTorch)
from itp.actions import ACTIONS, action_of  # noqa: E402
from itp.errors import ModelError  # noqa: E402
from itp.models.load import load_model  # noqa: E402
from itp.sim.simulator import masks_of_actions  # noqa: E402
from itp_training import calibration, export  # noqa: E402
from itp_training.adam import Adam  # noqa: E402
from itp_training.collect import Collector, Experiences  # noqa: E402
from itp_training.config import TrainingConfig, preset  # noqa: E402
from itp_training.errors import TrainingError  # noqa: E402
from itp_training.learner import PRIORITY_EPS, Learner  # noqa: E402
from itp_training.network import QNetwork  # noqa: E402
from itp_training.publish import GUARD_COST, GUARD_ROOM, publish  # noqa: E402
from itp_training.trainer import Trainer  # noqa: E402
from itp_training.validation import NetworkPolicy  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")

CPU = torch.device("cpu")
TINY = {"episodes": 6, "envs": 3, "tasks": 24, "updates": 30, "batch_size": 16, "teacher_episodes": 3}


def tiny(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{**TINY, **changes})


# --- what is collected ---


def log_slowdown(outcomes: np.ndarray) -> np.ndarray:
    return np.log((outcomes["completed_at_s"] - outcomes["arrived_at_s"]) / outcomes["reference_time_s"])


def collect(config: TrainingConfig, number: int = 0) -> Experiences:
    torch.manual_seed(0)
    return Collector(config, CPU).collect(number, QNetwork(config).eval(), 0.5)[0]


@pytest.mark.parametrize("n_step", [1, 3, 24, 40])
def test_n_step_returns_are_the_discounted_sum_of_the_tasks_own(n_step: int) -> None:
    one = collect(tiny(td_weight=1.0, gamma=0.9, look_ahead_share=0.0))
    many = collect(tiny(td_weight=1.0, gamma=0.9, look_ahead_share=0.0, n_step=n_step))
    gain = one.reward.reshape(3, 24)
    for env in range(3):
        for task in range(24):
            wanted = sum(0.9**k * gain[env, task + k] for k in range(n_step) if task + k < 24)
            assert many.reward.reshape(3, 24)[env, task] == pytest.approx(wanted, rel=1e-12)
            assert many.done.reshape(3, 24)[env, task] == (task + n_step >= 24)
    states = one.state.reshape(3, 24, 20)
    assert (one.next_state.reshape(3, 24, 20)[:, :-1] == states[:, 1:]).all()
    assert (many.state == one.state).all()


# Under srpt tasks beyond the horizon would go ahead of those before it: there it ends with the episode.
@pytest.mark.parametrize(("order", "horizon"), [("fifo", 7), ("srpt", 24 - 9)])
def test_look_ahead_is_what_happens_when_the_action_is_taken(order: str, horizon: int) -> None:
    config = tiny(service_order=order, look_ahead_tasks=horizon, gamma=0.8)
    collector = Collector(config, CPU)
    torch.manual_seed(1)
    network = QNetwork(config).eval()
    policy = NetworkPolicy(network, CPU)
    seeds = np.arange(2, dtype=np.uint64)

    def at_task(number: int) -> Simulator:
        sim = Simulator(collector.scenario, seeds=seeds)
        for _ in range(number):
            sim.step_masks(*policy.act(sim))
        return sim

    found = collector.look_ahead(at_task(9), 9, network)
    assert np.isfinite(found).any(axis=1).all()
    for action in range(15):
        sim = at_task(9)
        in_flight = sim.counters()["in_flight"].copy()
        assert in_flight.sum() > 0
        total = np.zeros(2)
        sim.step(np.full(2, action))
        while True:
            outcomes = sim.completed()
            near = outcomes[outcomes["task"] < 9 + horizon]
            ahead = np.maximum(near["task"] - 9, 0)
            np.add.at(total, near["env"], -log_slowdown(near) * 0.8**ahead)
            if sim.done.all():
                break
            sim.step_masks(*policy.act(sim))
        tried = np.isfinite(found[:, action])
        assert found[tried, action] == pytest.approx(total[tried], rel=1e-4, abs=1e-4)


def test_a_round_is_the_same_however_often_it_is_collected() -> None:
    config = tiny(look_ahead_share=0.5)
    first, second = collect(config, 1), collect(config, 1)
    for name in Experiences.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.state, collect(config, 0).state)


def test_a_scenario_that_completes_nothing_is_refused(tmp_path: Path) -> None:
    late = tmp_path / "late.toml"
    late.write_text(
        'name = "late"\n[workload]\ndeadline = { share = 1.0, low = 1e-3, high = 1e-3 }\n'
        + "[[paths]]\nrate_mbit = 10\nrtt_ms = 10\n" * 4
    )
    with pytest.raises(TrainingError, match="no task of 72 was completed"):
        collect(tiny(scenarios=(str(late),)))


def test_what_a_task_returns_must_be_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Collector, "_gain", lambda _, outcomes: np.full(len(outcomes), np.nan))
    with pytest.raises(TrainingError, match="round 1: a task's slowdown is not finite"):
        collect(tiny(look_ahead_share=0.0, td_weight=1.0))


# --- how it is learnt ---


def filled(config: TrainingConfig, n: int = 64) -> Learner:
    torch.manual_seed(0)
    learner = Learner(config, CPU)
    rng = np.random.default_rng(0)
    state = rng.random((n, 20), dtype=np.float32)
    # What a set of streams returns does not depend on their order.
    returns = np.array(
        [[3.0 * row[list(streams)].mean() for streams in ACTIONS] for row in state], np.float32
    )
    returns[rng.random((n, 15)) < 0.3] = np.nan
    returns[:, 0] = 1.0
    learner.replay.store(
        Experiences(
            state=state,
            action=rng.integers(0, 15, n),
            reward=rng.normal(size=n),
            next_state=rng.random((n, 20), dtype=np.float32),
            done=rng.random(n) < 0.2,
            returns=returns,
        )
    )
    return learner


def huber(error: np.ndarray, delta: float) -> np.ndarray:
    size = np.abs(error)
    return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))


def twin_sample(learner: Learner, config: TrainingConfig) -> dict[str, np.ndarray]:
    """What the next update will sample, from a buffer with the same content and generator."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        learner.replay.simulated.save(f"{folder}/b")
        twin = Learner(config, CPU).replay.simulated
        twin.load(f"{folder}/b")
    return twin.sample(config.batch_size, learner.beta)


def q_of(network: QNetwork, states: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(states)).numpy().astype(np.float64)


def seen_order(learner: Learner) -> list[tuple[int, ...]]:
    """In which order the next batch's decisions are shown their streams."""
    drawn = copy.deepcopy(learner.rng).integers(24, size=learner.config.batch_size)
    return [list(itertools.permutations(range(4)))[k] for k in drawn]


def shuffled(states: np.ndarray, orders: list[tuple[int, ...]]) -> np.ndarray:
    seen = states.copy()
    for row, order in enumerate(orders):
        for i, stream in enumerate(order):
            for group in range(4):
                seen[row, 4 * group + i] = states[row, 4 * group + stream]
    return seen


def in_own_order(values: np.ndarray, orders: list[tuple[int, ...]]) -> np.ndarray:
    """Values of the actions as seen, by the actions that they are."""
    own = np.empty_like(values)
    for row, order in enumerate(orders):
        for action, streams in enumerate(ACTIONS):
            own[row, action_of([order[i] for i in streams])] = values[row, action]
    return own


def test_look_ahead_loss_and_priorities() -> None:
    config = tiny(huber_delta=0.7, updates=100)
    learner = filled(config)
    batch = twin_sample(learner, config)
    order = seen_order(learner)
    values = in_own_order(q_of(learner.network, shuffled(batch["state"], order)), order)
    returns = learner.replay.returns[batch["indexes"]].astype(np.float64)
    error = values - returns
    error -= np.nanmean(error, axis=1, keepdims=True)
    per_state = np.nanmean(huber(error, 0.7), axis=1)
    assert learner.update() == pytest.approx((batch["weights"] * per_state).mean(), rel=1e-5)
    largest = np.nanmean(np.abs(error), axis=1).max() + PRIORITY_EPS
    assert learner.replay.simulated.max_priority == pytest.approx(max(largest, 1.0), rel=1e-5)


@pytest.mark.parametrize("n_step", [1, 3])
def test_double_dqn_loss(n_step: int) -> None:
    config = tiny(td_weight=1.0, look_ahead_share=0.0, gamma=0.9, n_step=n_step, updates=100)
    learner = filled(config)
    with torch.no_grad():
        for parameter in learner.target.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = twin_sample(learner, config)
    order = seen_order(learner)
    following = shuffled(batch["next_state"], order)
    best = q_of(learner.network, following).argmax(axis=1)
    future = q_of(learner.target, following)[np.arange(16), best]
    wanted = batch["reward"] + 0.9**n_step * ~batch["done"] * future
    values = in_own_order(q_of(learner.network, shuffled(batch["state"], order)), order)
    error = values[np.arange(16), batch["action"]] - wanted
    assert learner.update() == pytest.approx((batch["weights"] * huber(error, 1.0)).mean(), rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"td_weight": 0.5, "gamma": 0.9}, {"duelling": True}, {"td_weight": 1.0, "look_ahead_share": 0.0}],
)
def test_the_gradient_is_autograds(changes: dict[str, float]) -> None:
    config = tiny(huber_delta=0.2, **changes)
    learner = filled(config)
    batch = twin_sample(learner, config)
    order = seen_order(learner)
    twin = copy.deepcopy(learner.network)
    values = twin(torch.from_numpy(shuffled(batch["state"], order)))
    own = torch.stack(
        [
            values[r, [action_of([o.index(s) for s in streams]) for streams in ACTIONS]]
            for r, o in enumerate(order)
        ]
    )
    weights = torch.from_numpy(batch["weights"])
    loss = torch.zeros(())
    if config.td_weight:
        following = shuffled(batch["next_state"], order)
        best = q_of(learner.network, following).argmax(axis=1)
        future = q_of(learner.target, following)[np.arange(16), best].astype(np.float32)
        wanted = torch.from_numpy(
            (batch["reward"] + config.gamma * ~batch["done"] * future).astype(np.float32)
        )
        chosen = own[torch.arange(16), torch.from_numpy(batch["action"])]
        each = torch.nn.functional.huber_loss(chosen, wanted, reduction="none", delta=0.2)
        loss = loss + config.td_weight * (weights * each).mean()
    if config.look_ahead_share:
        returns = torch.from_numpy(learner.replay.returns[batch["indexes"]])
        for row in range(16):
            known = ~torch.isnan(returns[row])
            error = own[row][known] - returns[row][known]
            error = error - error.mean()
            loss = loss + weights[row] / 16 * torch.nn.functional.huber_loss(error, 0.0 * error, delta=0.2)
    wanted_gradients = torch.autograd.grad(loss, list(twin.parameters()))
    assert learner.update() == pytest.approx(float(loss.detach()), rel=1e-5)
    for parameter, gradient in zip(learner.network.parameters(), wanted_gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_adam_is_pytorchs() -> None:
    torch.manual_seed(0)
    weights, gradient = torch.randn(50), torch.zeros(50)
    parameter = torch.nn.Parameter(weights.clone())
    theirs, mine = torch.optim.Adam([parameter], lr=3e-3), Adam(weights, gradient)
    for _ in range(20):
        gradient.normal_()
        parameter.grad = gradient.clone()
        theirs.step()
        mine.step(3e-3)
        torch.testing.assert_close(weights, parameter.detach(), rtol=1e-6, atol=1e-7)


def test_target_network_follows() -> None:
    config = tiny(td_weight=1.0, target_rate=0.25)
    learner = filled(config)
    before = [p.clone() for p in learner.target.parameters()]
    learner.update()
    for old, mine, theirs in zip(
        before, learner.target.parameters(), learner.network.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, old + 0.25 * (theirs.detach() - old))


def test_updates_bring_the_loss_down_and_beta_and_rate_move() -> None:
    learner = filled(tiny(updates=300, learning_rate=3e-3))
    losses = [learner.update() for _ in range(300)]
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:20])
    assert learner.beta == pytest.approx(1.0)
    assert learner.learning_rate == pytest.approx(3e-3 * 0.05)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    learner = filled(tiny())
    learner.replay.returns[:, 3] = np.inf
    before = [p.clone() for p in learner.network.parameters()]
    with pytest.raises(TrainingError, match=r"loss of update 1 is .*decisions \["):
        learner.update()
    for old, new in zip(before, learner.network.parameters(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("order", ["fifo", "srpt"])
def test_same_seed_same_bits(order: str) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        trainer = Trainer(tiny(service_order=order, seed=seed, td_weight=0.5), CPU)
        trainer.run()
        return [p.detach() for p in trainer.learner.network.parameters()]

    first, second, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_round_without_look_ahead_is_not_learnt_from() -> None:
    trainer = Trainer(tiny(look_ahead_share=1e-9), CPU)
    trainer.run()
    assert trainer.learner.updates == 0
    assert len(trainer.rounds) == 2


def test_training_beats_the_untrained_network_and_random_choice() -> None:
    config = TrainingConfig(episodes=60, envs=20, tasks=100, updates=600, batch_size=256, teacher_episodes=20)
    trainer = Trainer(config, CPU)
    untrained = trainer.validation.slowdown(trainer.learner.network.eval())
    trainer.run()
    trained = trainer.rounds[-1].validation_slowdown
    assert trained < 0.8 * untrained
    assert trained < trainer.validation.of_policy(policies.make("random"))


# --- the model file ---


def shaken(config: TrainingConfig) -> QNetwork:
    """A network whose batch norm has statistics, as after training."""
    torch.manual_seed(2)
    network = QNetwork(config)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.weight.normal_(1.0, 0.2)
                module.bias.normal_()
    return network.eval()


@pytest.mark.parametrize(
    "changes",
    [{}, {"duelling": True}, {"batch_norm": True, "dropout": 0.2}, {"hidden": (32,), "duelling": True}],
)
def test_folded_layers_are_the_network(changes: dict[str, object]) -> None:
    network = shaken(tiny(**changes))
    states = np.random.default_rng(1).random((200, 20), dtype=np.float32)
    value = states.astype(np.float64)
    layers = network.dense_layers()
    for number, (weight, bias) in enumerate(layers):
        value = value @ weight.numpy().T + bias.numpy()
        if number < len(layers) - 1:
            value = np.maximum(value, 0.0)
    np.testing.assert_allclose(value, q_of(network, states), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"duelling": True}, {"batch_norm": True, "dropout": 0.2}])
def test_exported_model_answers_as_the_network(tmp_path: Path, changes: dict[str, object]) -> None:
    config = tiny(**changes)
    network = shaken(config)
    path = export.export(network, config, tmp_path, name="tiny", rounds=[])
    states = np.random.default_rng(1).random((500, 20), dtype=np.float32)
    model = load_model(path)
    found = model.session.run(["q_values"], {"state": states})[0]
    np.testing.assert_allclose(found, q_of(network, states), rtol=1e-5, atol=1e-5)
    beside = json.loads(path.with_suffix(".json").read_text())
    assert TrainingConfig.from_dict(beside["training"]["config"]) == config
    assert beside["service_order"] == "fifo"
    assert model.version.startswith("tiny-")
    assert beside["parity"]["largest_difference"] <= 1e-5


@pytest.mark.parametrize("duelling", [False, True])
def test_published_values_are_relative_and_choose_the_same(tmp_path: Path, duelling: bool) -> None:
    config = tiny(duelling=duelling, look_ahead_tasks=10)
    network = shaken(config)
    path = publish(network, config, tmp_path, name="tiny", rounds=[])
    states = np.random.default_rng(1).random((500, 20), dtype=np.float32)
    found = load_model(path).session.run(["q_values"], {"state": states})[0]
    wanted = q_of(network, states)
    wanted = (wanted - wanted.mean(axis=1, keepdims=True)) / 10
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    metadata = json.loads(path.with_suffix(".json").read_text())
    costs = {row["threshold"]: row["cost"] for row in metadata["guard_costs"]}
    chosen = metadata["guard"]["threshold"] / GUARD_ROOM
    assert costs[chosen] <= GUARD_COST or chosen == max(costs)
    assert all(costs[tighter] > GUARD_COST for tighter in costs if tighter < chosen)


def test_a_changed_model_file_is_refused(tmp_path: Path) -> None:
    config = tiny()
    path = export.export(shaken(config), config, tmp_path, name="tiny", rounds=[])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(path)


def test_a_network_with_nan_weights_is_not_exported(tmp_path: Path) -> None:
    config = tiny()
    network = shaken(config)
    with torch.no_grad():
        network.advantage.bias[3] = float("nan")
    with pytest.raises(TrainingError, match="not finite"):
        export.export(network, config, tmp_path, name="tiny", rounds=[])
    assert list(tmp_path.iterdir()) == []


# --- calibration ---


def made_up(n: int, seed: int) -> np.ndarray:
    """Plans whose outcomes are twice as long as planned, within a factor that depends on waiting."""
    rng = np.random.default_rng(seed)
    found = np.zeros(n, dtype=calibration.PLAN)
    found["planned_s"] = np.exp(rng.normal(0.0, 2.0, n))
    found["waiting"] = rng.random(n)
    found["actual_s"] = 2.0 * found["planned_s"] * np.exp(rng.normal(0.0, 0.05 + 0.3 * found["waiting"]))
    found["success"] = rng.random(n) < 0.9
    return found


def test_calibration_finds_a_known_relation() -> None:
    tables = calibration.fit(made_up(40_000, 0))
    for low, middle, high in tables["time_ratio"]:
        assert low < middle < high
        assert middle == pytest.approx(2.0, rel=0.1)
    figures = calibration.measure(tables, made_up(40_000, 1))
    assert 0.88 < figures["interval_coverage"] < 0.92
    assert figures["confidence_error"] < 0.02
    error = np.abs(made_up(40_000, 1)["actual_s"] / made_up(40_000, 1)["planned_s"] / 2.0 - 1.0)
    assert figures["median_time_error"] == pytest.approx(np.median(error), rel=0.1)


def test_calibration_error_is_seen() -> None:
    tables = calibration.fit(made_up(20_000, 0))
    wrong = {**tables, "confidence": [0.5 * x for x in tables["confidence"]]}
    assert calibration.measure(wrong, made_up(20_000, 1))["confidence_error"] > 0.2


def test_plans_are_what_the_simulator_did() -> None:
    sim = Simulator("heterogeneous", n_envs=3, seed=5)
    found = calibration.plans(sim.scenario, policies.make("single_best"), np.arange(5, 8, dtype=np.uint64))
    outcomes = policies.run(sim, policies.make("single_best"))
    np.testing.assert_allclose(
        np.sort(found["actual_s"]), np.sort(outcomes["completed_at_s"] - outcomes["arrived_at_s"])
    )
    np.testing.assert_allclose(np.sort(found["planned_s"]), np.sort(outcomes["expected_time_s"]))
    assert ((found["waiting"] >= 0) & (found["waiting"] <= 1)).all()
    assert set(np.unique(outcomes["mask"])) <= set(masks_of_actions(4)[:4].tolist())


def test_presets_are_valid() -> None:
    assert preset("mission").batch_norm
    assert preset("mission").dropout == 0.2
    assert preset("default").hidden == (128, 128, 64)
