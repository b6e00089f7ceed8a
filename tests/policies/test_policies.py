"""Models as policies: against a forward pass and a guard in NumPy."""

import dataclasses
import json
import pickle

import numpy as np
import onnx
import pytest

from itp import ModelError
from itp.evaluation import across, compare, ready
from itp.evaluation.report import Report
from itp.policies.base import TEST_SEED
from itp.policies.episodes import run
from itp.policies.names import make
from itp.policies.rules import Rule
from itp.policies.served import ModelPolicy
from itp.schema import SOURCES
from itp.sim.scenario import load
from itp.sim.simulator import Simulator, masks_of_actions
from itp_overhead import dense_chain
from onnx_models import forward

LAYERS = (20, 16, 15)
GUARD = SOURCES.index("guard")
MASKS = masks_of_actions(4)


def net(path, seed=0, guard=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"schema": 1, **({"guard": guard} if guard else {})}
    return dense_chain(path, layers=LAYERS, seed=seed, metadata=metadata, **options)


@pytest.fixture
def model(tmp_path):
    return net(tmp_path / "net.onnx")


def simulator(order="fifo", n_envs=12, tasks=40, family="flaky"):
    return Simulator(family, seeds=np.arange(n_envs) + TEST_SEED, tasks=tasks, service_order=order)


def greedy(path, sim):
    """The open action of the greatest Q-value, as masks."""
    closed = (MASKS[None, :] & ~sim.waiting()["up"][:, None]) != 0
    q_values = forward(path, sim.states)
    return MASKS[np.where(closed, -np.inf, q_values).argmax(axis=1)]


# --- what it decides ---


def test_it_takes_the_open_action_of_the_greatest_value(model):
    path = {"rate_mbit": 50, "rtt_ms": 20, "random_outages": {"up_s": 1.0, "down_s": 1.0}}
    sim, policy = simulator(family=load({"paths": [path] * 4})), ModelPolicy(model)
    policy.begin(sim)
    closed = 0
    while not sim.done.all():
        masks, splits, *_ = policy.act(sim)
        waits = ~sim.done
        np.testing.assert_array_equal(masks[waits], greedy(model, sim)[waits])
        assert (splits == 0).all()
        closed += int((sim.waiting()["up"] != 15).sum())
        sim.step_masks(masks, splits)
    assert closed > 0
    assert not policy.has_guard


@pytest.mark.parametrize("order", ["fifo", "srpt"])
@pytest.mark.parametrize("rule", ["single_best", "least_completion_time"])
def test_the_guard_gives_to_the_rule_what_would_take_too_long(rule, order, tmp_path):
    path = net(tmp_path / "net.onnx", guard={"rule": rule, "threshold": 1.5})
    sim, policy = simulator(order), ModelPolicy(path)
    policy.begin(sim)
    guarded = decided = 0
    while not sim.done.all():
        of_model, of_rule = greedy(path, sim), Rule(rule).act(sim)[0].copy()
        every_s = sim.expected_times(np.tile(MASKS, (sim.n_envs, 1)))
        opened = sim.action_masks
        masks, splits, _, _, sources = policy.act(sim)
        for env in np.flatnonzero(~sim.done):
            # The rule's choice is the least of all plans that are open to it.
            allowed = opened[env] & (np.arange(15) < (4 if rule == "single_best" else 15))
            least_s = every_s[env][allowed].min()
            mine_s = every_s[env][of_model[env] == MASKS][0]
            assert every_s[env][of_rule[env] == MASKS][0] == pytest.approx(least_s)
            late = mine_s > 1.5 * least_s
            assert masks[env] == (of_rule if late else of_model)[env]
            assert (sources[env] == GUARD) == late
            guarded += late
            decided += 1
        sim.step_masks(masks, splits)
    assert 0 < guarded < decided


def test_without_its_guard_the_model_decides_alone(tmp_path):
    path = net(tmp_path / "net.onnx", guard={"rule": "single_best", "threshold": 1.0})
    sim, policy = simulator(), make(f"{path}:no-guard")
    policy.begin(sim)
    np.testing.assert_array_equal(policy.act(sim)[0], greedy(path, sim))
    assert policy.name == "net:no-guard"
    assert not policy.has_guard


def test_each_order_has_its_variant(model, tmp_path):
    other = net(tmp_path / "net-srpt.onnx", seed=1)
    for order, path in (("fifo", model), ("srpt", other)):
        sim, policy = simulator(order), ModelPolicy(model)
        policy.begin(sim)
        np.testing.assert_array_equal(policy.act(sim)[0], greedy(path, sim))
    assert (greedy(model, sim) != greedy(other, sim)).any()


def test_it_goes_to_another_process(tmp_path):
    policy = ModelPolicy(net(tmp_path / "net.onnx", guard={"rule": "single_best", "threshold": 1.2}))
    outcomes = []
    for each in (policy, pickle.loads(pickle.dumps(policy))):
        sim = simulator()
        each.begin(sim)
        outcomes.append(run(sim, each))
        assert (outcomes[-1]["source"] == GUARD).any()
    np.testing.assert_array_equal(*outcomes)


def test_models_decide_over_four_streams(model):
    three = load({"paths": [{"rate_mbit": 10, "rtt_ms": 5}] * 3})
    with pytest.raises(ModelError, match=r"over 4 streams; .* has 3"):
        ModelPolicy(model).begin(Simulator(three))


def test_a_model_of_one_state_at_a_time_decides_like_one_of_many(model, tmp_path):
    proto = onnx.load(str(model))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    alone = tmp_path / "alone.onnx"
    onnx.save(proto, str(alone))
    outcomes = []
    for path in (model, alone):
        sim, policy = simulator(), ModelPolicy(path)
        policy.begin(sim)
        outcomes.append(run(sim, policy))
    np.testing.assert_array_equal(*outcomes)


# --- names ---


def test_models_are_made_by_name_and_path(model, tmp_path, monkeypatch):
    monkeypatch.setattr("itp.models.load.SHIPPED", tmp_path)
    for spec, name in (("net", "net"), ("net:no-guard", "net:no-guard"), (str(model), "net")):
        policy = make(spec)
        assert (policy.name, policy.path, policy.spec) == (name, model, spec)
    with pytest.raises(
        ValueError, match=r"did you mean 'net'\? There are: .*oracle, auto, net, and \.onnx files"
    ):
        make("nett")
    with pytest.raises(ModelError, match=r"no model at .*none\.onnx"):
        make("none.onnx")


def test_files_of_one_name_are_told_apart(tmp_path):
    paths = [net(tmp_path / folder / "net.onnx") for folder in ("a/x", "b/x", "b/y")]
    paths += [net(tmp_path / "pull.onnx"), net(tmp_path / "alone.onnx")]
    held, alike = ready(["pull", *map(str, paths[2:]), f"{paths[2]}:no-guard"], paths[:2])
    assert [policy.name for policy in held] == [
        "pull",
        "y/net",
        f"{tmp_path.name}/pull",
        "alone",
        "y/net:no-guard",
    ]
    assert [policy.name for policy in alike] == ["a/x/net", "b/x/net"]
    chosen = ModelPolicy(paths[0], name="mine")
    assert [policy.name for policy in ready([chosen, paths[1]])[0]] == ["mine", "b/x/net"]


def test_the_same_model_twice_is_refused(model):
    with pytest.raises(ValueError, match="'net' appears twice"):
        compare([model, str(model)], ["lossy"], 2, processes=1)


# --- evaluation ---


class Failing(Rule):
    """A rule that must not be reached."""

    def act(self, _sim):
        raise ZeroDivisionError


RULES = ["single_best", "least_completion_time", "oracle"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A guarded model with and without its guard, and three training seeds of another."""
    folder = tmp_path_factory.mktemp("models")
    guarded = net(folder / "net.onnx", guard={"rule": "least_completion_time", "threshold": 1.3})
    seeds = [net(folder / f"seed{k}" / "model.onnx", seed=k) for k in range(3)]
    report = compare(
        [*RULES, guarded, f"{guarded}:no-guard"],
        ["flaky", "lossy"],
        5,
        replicas=seeds,
        tasks=25,
        rate_scale=2.0,
        processes=1,
    )
    return report, guarded, seeds


def test_guarded_shares_are_those_of_the_policy(evaluated):
    report, path, _ = evaluated
    configuration = report.configuration
    p = configuration.policies.index("net")
    for s, name in enumerate(configuration.scenarios):
        for o, order in enumerate(configuration.service_orders):
            world = load(name).with_options(service_order=order, tasks=25, rate_scale=2.0)
            sim, policy = Simulator(world, seeds=configuration.seeds), ModelPolicy(path)
            policy.begin(sim)
            outcomes = run(sim, policy)
            share = report.figures["guarded"][s, o, p].mean()
            assert share == pytest.approx((outcomes["source"] == GUARD).mean())
            assert 0 < share < 1
    others = np.delete(report.figures["guarded"], p, axis=2)
    assert np.isnan(others).all()


def test_the_guards_cost_is_paired(evaluated):
    report = evaluated[0]
    names = report.configuration.policies
    values = report.figures["log_slowdown"]
    for group, of_cell in zip(report.analysis.groups, values.reshape(-1, *values.shape[2:]), strict=True):
        less = of_cell[names.index("net")] - of_cell[names.index("net:no-guard")]
        cost = group.row("net").guard_cost
        assert cost.value == pytest.approx(np.exp(less.mean()) - 1)
        drawn = less[np.random.default_rng(1).integers(0, 5, (20_000, 5))].mean(axis=1)
        low, high = np.exp(np.percentile(drawn, (2.5, 97.5))) - 1
        width = high - low
        assert (cost.low, cost.high) == pytest.approx((low, high), abs=0.1 * width)
        assert np.isnan(group.row("net:no-guard").guard_cost.value)


def test_deadlines_are_held_against_the_oracles(evaluated):
    report = evaluated[0]
    names = report.configuration.policies
    met = report.figures["deadlines_met"].mean(axis=3).reshape(-1, len(names))
    for group, of_cell in zip(report.analysis.groups, met, strict=True):
        for name, share in zip(names, of_cell, strict=True):
            kept = group.row(name).deadlines_kept
            assert kept.value == pytest.approx(share / of_cell[names.index("oracle")])
            assert kept.low <= kept.value <= kept.high


def test_training_seeds_are_summed_up(evaluated):
    report = evaluated[0]
    names = ("seed0/model", "seed1/model", "seed2/model")
    assert report.configuration.replicas == names
    found = across(report)
    groups = (*report.analysis.groups, *report.analysis.averages)
    assert [(part.scenario, part.service_order) for part in found] == [
        (group.scenario, group.service_order) for group in groups
    ]
    for part, group in zip(found, groups, strict=True):
        changes = np.array([group.row(name).change.value for name in names])
        closed = np.array([group.row(name).gap_closed.value for name in names])
        assert part.change.mean == pytest.approx(np.prod(1 + changes) ** (1 / 3) - 1)
        assert (part.change.least, part.change.most) == pytest.approx((changes.min(), changes.max()))
        spread = (part.gap_closed.mean, part.gap_closed.least, part.gap_closed.most)
        assert spread == pytest.approx((closed.mean(), closed.min(), closed.max()), nan_ok=True)
    alone = across(report, ["net"])[0]
    assert alone.change.least == alone.change.most == pytest.approx(alone.change.mean)
    with pytest.raises(ValueError, match="'nobody' is not in the report"):
        across(report, ["nobody"])
    with pytest.raises(ValueError, match="at least one"):
        across(report, [])


def test_the_best_rule_is_never_a_model(evaluated):
    report = evaluated[0]
    names = report.configuration.policies
    figures = {name: values.copy() for name, values in report.figures.items()}
    figures["log_slowdown"][:, :, names.index("net")] = -9.0  # far ahead of every rule
    analysis = dataclasses.replace(report, figures=figures).analysis
    for group in (*analysis.groups, *analysis.averages):
        assert group.rows[0].policy == "net"
        assert group.best_classical in RULES[:2]
        assert group.reference in (None, *RULES[:2])


def test_everything_is_in_the_report(evaluated, tmp_path):
    report = evaluated[0]
    again = Report.from_json(report.to_json())
    assert again.to_json() == report.to_json()
    assert (again.configuration.rate_scale, again.configuration.replicas) == (
        2.0,
        report.configuration.replicas,
    )
    parts = json.loads(report.to_json())["replicas"]
    assert [part["service_order"] for part in parts] == ["fifo", "srpt"] * 3
    page = report.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (report.to_markdown(), page):
        plain = text.replace("\N{NO-BREAK SPACE}", " ")
        for words in (
            "Over 3 training seeds",
            "guarded %",
            "deadlines kept",
            "over 3 training seeds, the slowdown is",
            "the guard of net makes",
            "of the deadlines that the oracle meets",
        ):
            assert words in plain
        assert "2 times the scenarios" in plain
        assert "--rate-scale 2.0" in plain


def test_charts_are_drawn_whatever_the_names(evaluated, tmp_path):
    names = {path.name for path in evaluated[0].plot(tmp_path)}
    for order in ("fifo", "srpt"):
        assert any(name.startswith("completion-") and name.endswith(f"{order}.svg") for name in names)


def test_a_model_that_cannot_serve_fails_before_the_others_begin(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"broken\.onnx: not a valid ONNX model"):
        compare([Failing("pull"), broken], ["lossy"], 2, tasks=5, processes=1)


def test_models_are_tested_on_test_seeds(model):
    with pytest.raises(ValueError, match="policies are trained on those below"):
        compare([model], ["lossy"], [TEST_SEED - 1], processes=1)


def test_models_run_in_processes(model):
    alone, shared = (compare(["pull", model], ["lossy"], 2, tasks=10, processes=n) for n in (1, 2))
    np.testing.assert_array_equal(alone.figures["log_slowdown"], shared.figures["log_slowdown"])


def test_hard_deadlines_are_met_by_plan_where_any_action_can(model):
    sim = Simulator("heterogeneous", n_envs=16, seed=3, load=0.8)
    free, bound = make(str(model)), make(f"{model}:hard-deadlines")
    assert bound.name == f"{model.stem}:hard-deadlines"
    sets = np.broadcast_to(masks_of_actions(4), (16, 15))
    differ = 0
    for policy in (free, bound):
        policy.begin(sim)
    for _ in range(100):
        planned_s = sim.expected_times(sets)
        deadline_s = sim.waiting()["deadline_s"][:, None]
        possible = (sim.action_masks & (planned_s <= deadline_s)).any(axis=1)
        masks, splits, *_ = bound.act(sim)
        mine_s = sim.expected_times(masks[:, None])
        assert (mine_s[possible] <= deadline_s[possible]).all()
        differ += int((masks != free.act(sim)[0]).sum())
        same = ~possible | (planned_s <= deadline_s).all(axis=1)
        assert (masks[same] == free.act(sim)[0][same]).all()
        sim.step_masks(masks, splits)
    assert differ > 0
