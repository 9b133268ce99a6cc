"""What a plan says of a training, against the networks and the memory of a real step."""

from __future__ import annotations

import weakref

import pytest

torch = pytest.importorskip("torch")

from CBCTSuperResLib.networks.options import NoOptions  # noqa: E402
from CBCTSuperResLib.networks.vgg import VGG19  # noqa: E402
from CBCTSuperResLib.train import plan as plan_module  # noqa: E402
from CBCTSuperResLib.train.options_file import read_options  # noqa: E402
from CBCTSuperResLib.train.pace import Pace, record_pace  # noqa: E402
from CBCTSuperResLib.train.plan import ALLOCATOR, PROGRAM_BYTES, Work, count, plan  # noqa: E402
from CBCTSuperResLib.train.ranks import Processes  # noqa: E402
from CBCTSuperResLib.train.recipes.recipe import build_recipe  # noqa: E402
from CBCTSuperResLib.train.step import Precision, Steps  # noqa: E402
from options_files import tiny  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

VGG = {"which_model_D": "discriminator_vgg_128", "nf": 4}
GB = 1e9


class Storages(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it and still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def options_of(**changes):
    return read_options(tiny(**changes))


def measured_peak(options) -> float:
    """Bytes of all tensors at the widest moment of a training's first step, networks and optimisers included."""
    data = options.dataset("train")
    with Storages() as storages:
        recipe = build_recipe(options)
        networks = recipe.build()
        alone = Processes()
        steps = Steps(
            recipe.step, networks, recipe.optimizers(networks), Precision("float32", torch.device("cpu")), alone, None
        )
        size = data.micro_batch or data.batch_size
        batches = []
        for _ in range(data.batch_size // size):
            high = torch.rand(size, 1, data.HR_size, data.HR_size)
            low = torch.nn.functional.avg_pool2d(high, options.scale).expand(
                -1, options.network_G.options.in_nc, -1, -1
            )
            batches.append({"LR": low.contiguous(), "HR": high})
        for number in (1, 2):
            steps.make(number, batches)
    return storages.peak


CASES = {
    "generator": dict(network_G={"nf": 8, "nb": 4, "gc": 4}),
    "long trunk": dict(network_G={"nf": 4, "nb": 9, "gc": 8}),
    "four times": dict(scale=4, datasets__train__HR_size=64),
    "three times": dict(scale=3, datasets__train__HR_size=48),
    "wide discriminators": dict(network_D={"nf": 24}),
    "running mean and parts": dict(datasets__train__micro_batch=2, train__ema_decay=0.99),
    "no GAN": dict(train__gan_weight=0, train__gradient_gan_weight=0),
    "five slices": dict(network_G__in_nc=5),
    "residual network": dict(
        network_G={"which_model_G": "residual_net", "nf": 24, "nb": 6, "in_nc": 5},
        train__pixel_branch_weight=0,
        train__gan_weight=0,
        train__gradient_gan_weight=0,
    ),
    "VGG": dict(network_D=VGG, datasets__train__HR_size=128, datasets__train__batch_size=2),
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_planned_memory_is_that_of_a_real_step(changes):
    options = options_of(**changes)
    data = options.dataset("train")
    work = Work(options, data.batch_size)
    planned = (work.memory(data.micro_batch or data.batch_size, "cpu") - PROGRAM_BYTES["cpu"]) / ALLOCATOR
    assert 1 / 1.4 < planned / measured_peak(options) < 1.4


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_planned_parameters_and_operations_are_those_of_the_networks(changes):
    options = options_of(**changes)
    recipe, costs = build_recipe(options), Work(options, 4).costs
    networks = recipe.build()
    assert list(costs) == list(networks)
    edge = options.dataset("train").HR_size
    shapes = {"G": recipe.example_batch(1)["LR"].shape[1:], "D": (1, edge, edge)}
    shapes["D_grad"] = (1, edge + 2, edge + 2) if changes.get("network_D") is VGG else (1, edge, edge)
    for role, network in networks.items():
        assert costs[role].parameters == _count(network)
        operations = _operations(network, torch.rand(2, *shapes[role])) / 2
        assert costs[role].flops == pytest.approx(operations, rel=1e-4), role
    pixels = (edge // options.scale) ** 2
    assert costs["G"].flops == pytest.approx(networks["G"].describe().flops_per_voxel() * pixels)


def test_the_published_sizes_have_the_published_numbers_of_parameters():
    costs = Work(options_of(network_G={}, network_D={}, train__feature_weight=1), 4).costs
    fixed_kernels, pixels = 18, 32**2  # of the gradient operator, which published counts include; of the patch
    assert costs["G"].parameters == 24_718_804 - fixed_kernels
    assert costs["G"].flops == pytest.approx(60_353_828 * pixels / 4, rel=1e-5)
    assert costs["D"].parameters == costs["D_grad"].parameters == 4_375_745
    assert costs["D"].flops == costs["D_grad"].flops == 788_736 * pixels
    assert costs["VGG19"].parameters == 20_024_384
    assert costs["VGG19"].flops == pytest.approx(777_600 * pixels, rel=1e-3)


def test_what_the_feature_network_keeps_is_what_its_layers_save():
    network, saved = VGG19(), {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    for parameter in network.parameters():
        parameter.requires_grad_(False)
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(image).sum()
    weights = sum(parameter.nbytes for parameter in network.parameters())
    cost = count(f"{VGG19.__module__}:VGG19", NoOptions(), (1, 64, 64))
    assert 1 / 1.25 < cost.kept * 4 / (sum(saved.values()) - weights) < 1.25


def test_as_many_images_at_a_time_are_planned_as_fit(monkeypatch):
    options = options_of(datasets__train__batch_size=12)
    work = Work(options, 12)
    for size in (12, 6, 4, 3, 2, 1):
        free = work.memory(size, "cpu") / 0.65 * 1.0001
        monkeypatch.setattr(plan_module, "available_memory", lambda free=free: int(free))
        planned = plan(options)
        assert (planned.micro_batch, planned.problems) == (size, [])
        assert planned.memory_bytes <= planned.free_bytes
        assert f"{12 // size} micro-batches of {size}" in planned.text() or size == 12


def test_too_little_memory_is_a_problem_with_advice(monkeypatch):
    monkeypatch.setattr(plan_module, "available_memory", lambda: int(0.1 * GB))
    planned = plan(options_of())
    assert planned.micro_batch == 1 and "memory is too small" in planned.problems[0]
    chosen = plan(options_of(datasets__train__micro_batch=4))
    assert chosen.micro_batch == 4 and "smaller micro_batch" in chosen.problems[0]
    whole = plan(options_of(network_D=VGG, datasets__train__HR_size=128))
    assert whole.micro_batch == 4 and "4 patch(es)" in whole.problems[0]


def test_what_was_chosen_is_planned_and_must_divide_the_share_of_a_process():
    options = options_of(datasets__train__micro_batch=2)
    assert plan(options).micro_batch == 2
    assert plan(options, processes=2).share == 2
    assert "does not divide the 1 patches" in plan(options, processes=4).problems[0]
    assert "cannot be shared evenly by 3" in plan(options, processes=3).problems[0]


def test_a_plan_never_raises_but_tells_devices_that_are_not_there():
    planned = plan(options_of(gpu_ids=[97]))
    assert "cannot be used" in planned.problems[0] and "--device cpu" in planned.text()
    assert plan(options_of(gpu_ids=[97]), "cpu").problems == []


def test_missing_files_and_notes_are_in_the_plan():
    options = options_of(train__feature_weight=1, network_D={"nf": 4, "norm_type": "batch"})
    text = plan(options).text()
    assert "Missing:" in text and "feature_weights" in text and "Note: network_D.norm_type" in text
    assert "Missing:" not in plan(options_of()).text()


def test_a_warm_up_is_planned_shorter_than_the_steps_after_it():
    options = options_of(train__niter=100, train__warmup_iters=50)
    planned, without = plan(options), plan(options_of(train__niter=100))
    assert planned.seconds_per_step == without.seconds_per_step
    assert 0.5 * without.seconds < planned.seconds < without.seconds


def test_the_shares_of_a_step_follow_the_passes_of_each_network():
    options = options_of()
    work = Work(options, 4)
    whole, parts = work.flops(4), work.flops(2)
    assert whole["G"] == pytest.approx(3 * 4 * work.costs["G"].flops)
    assert whole["D"] == whole["D_grad"] == pytest.approx(9 * 4 * work.costs["D"].flops)
    assert parts["G"] == pytest.approx(4 / 3 * whole["G"]) and parts["D"] == pytest.approx(12 / 9 * whole["D"])


def test_measuring_times_real_steps_and_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    planned = plan(options_of(), measure=True)
    assert planned.measured and planned.seconds_per_step > 0 and "(measured)" in planned.text()
    assert torch.equal(before, torch.get_rng_state())


def test_what_was_measured_here_before_is_not_guessed_again():
    options = options_of(train__niter=100, train__warmup_iters=40)
    assert not plan(options).measured
    record_pace(options, Pace(0.5, 0.25))
    planned = plan(options)
    assert planned.measured and planned.seconds == pytest.approx(0.5 * (40 * 0.25 + 60))
    assert not plan(options, device="cpu").measured  # of a device that may be another one
    assert plan(options, measure=True).seconds_per_step != 0.5


def test_networks_are_called_what_people_call_them():
    text = plan(options_of(train__gan_weight=0.1, train__gradient_gan_weight=0.1)).text()
    assert "Parameters: generator " in text and "discriminator of edges " in text
    assert not {"G", "D", "D_grad"} & set(text.replace(",", "").replace(":", "").split())


def test_a_feature_loss_without_its_file_is_still_timed():
    options = options_of(train__feature_weight=1)
    assert plan(options, measure=True).measured


def _count(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _operations(network, batch) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(batch)
    return counter.get_flop_counts()["Global"][torch.ops.aten.convolution] + sum(
        flops for operation, flops in counter.get_flop_counts()["Global"].items() if "addmm" in str(operation)
    )
