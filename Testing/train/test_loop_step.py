"""What happens around a recipe's updates: who learns, what is refused, how parts and precision come in."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.train import step
from CBCTSuperResLib.train.loop import Schedule, next_smaller, out_of_memory
from CBCTSuperResLib.train.options import TrainOptions
from CBCTSuperResLib.train.ranks import Processes
from CBCTSuperResLib.train.state import Average
from CBCTSuperResLib.train.step import (
    MOST_OVERFLOWS,
    NonFinite,
    Precision,
    Steps,
    repeatable,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

CPU = torch.device("cpu")


class Toy:
    """G learns to please D, then D to tell; what they see is recorded."""

    exported = "G"

    def __init__(self, spoil: str = "", factor: float = 1.0) -> None:
        self.frozen = {}
        self.seen: list[tuple[str, dict[str, bool]]] = []
        self.spoil, self.factor = spoil, factor

    def build(self) -> dict[str, nn.Module]:
        torch.manual_seed(0)
        return {"G": nn.Linear(3, 3), "D": nn.utils.spectral_norm(nn.Linear(3, 2))}

    def optimizers(self, networks) -> dict:
        return {role: torch.optim.SGD(network.parameters(), lr=0.1) for role, network in networks.items()}

    def step(self, run) -> dict:
        logs = {}
        for role in ("G", "D"):
            with run.update(role) as update:
                self._record(role, run)
                for n, batch in enumerate(run.batches, start=1):
                    with run.autocast():
                        made = run.networks["G"](batch["x"]) if role == "D" else run.networks[role](batch["x"])
                        said = run.networks["D"](made)
                    loss = self.factor * (said if role == "G" else 1 - said).square().mean() / len(run.batches)
                    if self.spoil == role:
                        loss = loss * float("nan")
                    update.backward(loss, last=n == len(run.batches))
            logs[f"l_{role}"] = loss.detach()
        return logs

    def _record(self, role: str, run) -> None:
        networks = run.networks.items()
        self.seen.append((role, {f"{r}.{n}": p.requires_grad for r, m in networks for n, p in m.named_parameters()}))


def make_steps(recipe: Toy, **given) -> Steps:
    networks = recipe.build()
    precision = given.pop("precision", Precision("float32", CPU))
    return Steps(recipe.step, networks, recipe.optimizers(networks), precision, Processes(), **given)


def batch(size: int = 4) -> dict[str, torch.Tensor]:
    return {"x": torch.linspace(-1, 1, 3 * size).view(size, 3)}


def weights(steps: Steps) -> dict[str, torch.Tensor]:
    return {f"{r}.{n}": p.detach().clone() for r, m in steps.networks.items() for n, p in m.named_parameters()}


def test_only_the_role_being_updated_learns_and_what_was_frozen_stays_frozen():
    recipe = Toy()
    steps = make_steps(recipe)
    steps.networks["G"].bias.requires_grad_(False)
    steps.networks["D"].bias.requires_grad_(False)
    before = weights(steps)
    steps.make(1, [batch()])
    (_, in_g), (_, in_d) = recipe.seen
    assert [name for name, required in in_g.items() if required] == ["G.weight"]
    assert [name for name, required in in_d.items() if required] == ["D.weight_orig"]
    changed = [name for name, value in weights(steps).items() if not torch.equal(value, before[name])]
    assert changed == ["G.weight", "D.weight_orig"]
    required = {n: p.requires_grad for n, p in steps.networks["G"].named_parameters()}
    assert required == {"weight": True, "bias": False}


def test_what_requires_gradients_is_restored_after_an_error_too():
    steps = make_steps(Toy(spoil="G"))
    with pytest.raises(NonFinite):
        steps.make(1, [batch()])
    assert all(p.requires_grad for network in steps.networks.values() for p in network.parameters())


def test_a_batch_in_parts_gives_the_step_of_the_whole_batch():
    whole, parts = make_steps(Toy()), make_steps(Toy())
    for steps in (whole, parts):
        steps.networks["D"] = nn.utils.remove_spectral_norm(steps.networks["D"])
        steps.optimizers["D"] = torch.optim.SGD(steps.networks["D"].parameters(), lr=0.1)
    whole.make(1, [batch()])
    parts.make(1, [{"x": x} for x in batch()["x"].chunk(4)])
    for one, other in zip(weights(whole).values(), weights(parts).values(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_norm_of_the_gradient_is_logged_and_clipped():
    free, clipped = make_steps(Toy(factor=100.0)), make_steps(Toy(factor=100.0), grad_clip=0.5)
    norm = free.make(1, [batch()])["grad_norm_G"]
    before = weights(clipped)
    assert norm > 0.5 and clipped.make(1, [batch()])["grad_norm_G"] == norm
    moved = [weights(clipped)[name] - before[name] for name in before if name.startswith("G.")]
    assert torch.stack([change.norm() for change in moved]).norm() == pytest.approx(0.1 * 0.5, rel=1e-4)


@pytest.mark.parametrize("role", ["G", "D"])
def test_a_loss_that_is_not_finite_is_refused_before_it_does_harm(role):
    steps = make_steps(Toy(spoil=role))
    before = weights(steps)
    with pytest.raises(NonFinite) as caught:
        steps.make(1, [batch()])
    assert caught.value.role == role and caught.value.loss != caught.value.loss
    changed = {name[0] for name, value in weights(steps).items() if not torch.equal(value, before[name])}
    assert role not in changed


class Halves:
    """Precision that scales losses as float16 needs it, without float16."""

    autocast = staticmethod(nullcontext)

    @staticmethod
    def scaler():
        return torch.amp.GradScaler("cpu", init_scale=2.0**127)


def test_overflows_that_the_scaler_cures_are_no_errors_and_change_nothing():
    steps = make_steps(Toy(factor=8.0), precision=Halves)
    before = weights(steps)
    steps.make(1, [batch()])
    assert all(torch.equal(value, before[name]) for name, value in weights(steps).items())
    for number in range(2, MOST_OVERFLOWS):
        steps.make(number, [batch()])
    assert not torch.equal(weights(steps)["G.weight"], before["G.weight"])


def test_overflows_without_end_are_an_error():
    steps = make_steps(Toy(spoil="G"), precision=Halves)
    with pytest.raises(NonFinite):
        for number in range(1, MOST_OVERFLOWS + 2):
            steps.make(number, [batch()])
    assert number == MOST_OVERFLOWS + 1


def test_an_iteration_that_ends_early_leaves_the_spectral_norms_as_they_were():
    recipe = Toy(spoil="G")
    steps = make_steps(recipe)
    before = steps.networks["D"].weight_u.clone()
    with pytest.raises(NonFinite):
        steps.make(1, [batch()])
    assert torch.equal(steps.networks["D"].weight_u, before)
    recipe.spoil = "D"
    with pytest.raises(NonFinite):
        steps.make(1, [batch()])
    assert steps.stepped == {"G"} and not torch.equal(steps.networks["D"].weight_u, before)


def test_an_update_takes_nothing_after_its_last_loss():
    class Greedy(Toy):
        def step(self, run):
            with run.update("G") as update:
                loss = run.networks["G"](run.batches[0]["x"]).mean()
                update.backward(loss)
                update.backward(loss)

    steps = make_steps(Greedy())
    with pytest.raises(RuntimeError, match="complete"):
        steps.make(1, [batch()])


def test_short_types_that_a_processor_lacks_are_refused_by_name(monkeypatch):
    monkeypatch.setattr(step, "cpu_has_bfloat16", lambda: False)
    for name in ("bfloat16", "float16"):
        with pytest.raises(OptionError, match=f"{name}.*float32"):
            Precision(name, CPU)
    monkeypatch.setattr(step, "cpu_has_bfloat16", lambda: True)
    with pytest.raises(OptionError, match="float16"):
        Precision("float16", CPU)
    with Precision("bfloat16", CPU).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16


def test_settings_of_torch_come_back():
    before = torch.backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled()
    with repeatable(True, "float32", torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
    assert before == (torch.backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled())


def rates(train: TrainOptions, count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=train.lr_G)
    schedule = Schedule({"G": optimizer}, train)
    found = []
    for number in range(1, count + 1):
        schedule.set(number)
        found.append(schedule.rate("G"))
    return found


def test_multistep_rates_are_those_of_torch():
    train = TrainOptions(lr_G=1e-3, lr_steps=(2, 5, 6), lr_gamma=0.5, niter=10)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5, 6], 0.5)
    expected = []
    for _ in range(10):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(train, 10) == expected


@given(st.integers(1, 20), st.integers(21, 60))
def test_cosine_rates_rise_during_the_warm_up_and_then_fall_to_nothing(warmup, niter):
    train = TrainOptions(lr_G=1.0, lr_scheme="Cosine", lr_warmup_iters=warmup, niter=niter)
    found = rates(train, niter + 1)
    assert max(found) == pytest.approx(1.0) and found.index(max(found)) in (warmup - 1, warmup)
    assert all(a <= b + 1e-12 for a, b in zip(found[:warmup], found[1:warmup], strict=False))
    assert all(a >= b for a, b in zip(found[warmup:], found[warmup + 1 :], strict=False))
    assert found[-1] == pytest.approx(0.0) and found[-2] > 0


def test_every_group_keeps_its_own_rate():
    groups = [{"params": [torch.zeros(1)], "lr": 1.0}, {"params": [torch.zeros(1)], "lr": 3.0}]
    optimizer = torch.optim.SGD(groups, lr=9.0)
    Schedule({"G": optimizer}, TrainOptions(lr_steps=(1,), lr_gamma=0.1)).set(2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.3])


def test_the_mean_follows_with_a_decay_that_grows():
    network = nn.BatchNorm1d(2)
    average = Average(network, 0.5)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(7.0)
    average.follow(network, 1)
    assert torch.allclose(average.network.weight, torch.full((2,), 1 * 2 / 11 + 3 * 9 / 11))
    assert torch.equal(average.network.running_mean, torch.full((2,), 7.0))
    assert not average.network.training and not average.network.weight.requires_grad
    before = average.network.weight.clone()
    average.follow(network, 1000)
    assert torch.allclose(average.network.weight, (before + 3) / 2)


@given(st.integers(2, 64))
def test_smaller_parts_divide_the_share(share):
    tried = share
    while tried > 1:
        smaller = next_smaller(share, tried)
        assert share % smaller == 0 and smaller <= tried // 2
        tried = smaller


def test_a_memory_that_is_too_small_is_told_with_what_to_set():
    assert "micro_batch to 4 and go on with --resume auto" in str(out_of_memory(8, 8, 5, True))
    assert "HR_size" in str(out_of_memory(8, 1, 5, True))
