"""Attributions against captum, loops and finite differences; known reasons; nothing of the user's changes."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import captum.attr as captum
import numpy as np
import pytest
import torch
from PIL import Image
from tests.explain.models import CLASSES, Residual, Sides, model_of, picture, zoo_model
from torch import Tensor, nn
from torch.nn import functional as F

from striate.config import Preprocess
from striate.data.transforms import eval_transform
from striate.errors import DataError, UsageError
from striate.explain import METHODS
from striate.explain.attribution.maps import (
    averaged,
    grad_cam,
    gradient,
    guided_backpropagation,
    guided_grad_cam,
    hires_cam,
    integrated_gradients,
    occlusion,
    occlusion_map,
    smooth_gradient,
)
from striate.explain.attribution.overlay import heat, on_picture, was_seen
from striate.explain.attribution.pages import extremes
from striate.explain.explained import ExplainedModel, deepest_maps, explained_image, look_at
from striate.explain.explanation import Request
from striate.explain.layers import backbone_in, find_layer, readable_copy
from striate.tasks.detect.fcos import FCOSCoder
from striate.tasks.outputs import image_size

pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require")
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def second(outputs: Tensor) -> Tensor:
    return outputs[:, 1]


class Modules(nn.Module):
    """What captum can take: every ReLU a module of its own, none in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.ReLU()
        self.fc1, self.relu3, self.fc2 = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu2(self.conv2(self.relu1(self.conv1(images))))
        return self.fc2(self.relu3(self.fc1(maps.mean((2, 3)))))


class Functions(Modules):
    """The same, with functions, in place where they can be."""

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu_(self.conv2(F.relu(self.conv1(images), inplace=True)))
        return self.fc2(self.fc1(maps.mean((2, 3))).relu())


@pytest.fixture
def network() -> Modules:
    torch.manual_seed(1)
    return Modules().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(3))


def test_grad_cam_is_captums(network: Modules, images: Tensor):
    expected = captum.LayerGradCam(network, network.relu2).attribute(images, target=1, relu_attributions=True)
    found = grad_cam(network, images, second, network.relu2)
    assert found.shape == (2, 6, 5)
    assert found.max() > 0
    torch.testing.assert_close(found, expected.detach()[:, 0], **CLOSE)


def test_gradient_is_captums_and_that_of_finite_differences(network: Modules, images: Tensor):
    found = gradient(network, images, second)
    torch.testing.assert_close(found, captum.Saliency(network).attribute(images, target=1, abs=False), **CLOSE)
    double, step = copy.deepcopy(network).double(), 1e-6
    for place in ((0, 0, 3, 4), (1, 2, 11, 9), (0, 1, 0, 0)):
        moved = [images.double(), images.double()]
        moved[0][place] += step
        moved[1][place] -= step
        above, below = (double(values)[place[0], 1].item() for values in moved)
        assert found[place].item() == pytest.approx((above - below) / (2 * step), abs=1e-6)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_guided_backpropagation_is_captums(network: Modules, images: Tensor):
    expected = captum.GuidedBackprop(network).attribute(images, target=1)
    found = guided_backpropagation(network, images, second)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert not torch.allclose(found, gradient(network, images, second))
    functions = Functions().eval()
    functions.load_state_dict(network.state_dict())
    torch.testing.assert_close(guided_backpropagation(functions, images, second), expected, **CLOSE)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_guided_grad_cam_is_captums(network: Modules, images: Tensor):
    expected = captum.GuidedGradCam(network, network.relu2).attribute(images, target=1, interpolate_mode="bilinear")
    guided = guided_backpropagation(network, images, second)
    found = guided_grad_cam(guided, grad_cam(network, images, second, network.relu2))
    torch.testing.assert_close(found, expected.detach(), **CLOSE)


def test_hires_cam_is_captums_gradient_times_activation(network: Modules, images: Tensor):
    expected = captum.LayerGradientXActivation(network, network.relu1).attribute(images, target=1)
    found = hires_cam(network, images, second, network.relu1)
    torch.testing.assert_close(found, expected.detach().sum(1).relu(), **CLOSE)
    linear = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    same = [way(linear, images, second, linear[1]) for way in (grad_cam, hires_cam)]
    torch.testing.assert_close(*same, **CLOSE)  # of means alike: Draelos & Carin, section 3


def test_integrated_gradients_are_the_integral_and_complete(network: Modules, images: Tensor):
    places, weights = np.polynomial.legendre.leggauss(20)
    expected = torch.zeros_like(images)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        expected += float(weight) * gradient(network, float(place) * images, second)
    found = integrated_gradients(network, images, second, steps=20)
    torch.testing.assert_close(found, expected * images, **CLOSE)
    fine = integrated_gradients(network, images, second, steps=300).sum((1, 2, 3))
    rise = second(network(images)) - second(network(torch.zeros_like(images)))
    torch.testing.assert_close(fine, rise.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 3), (50, 50)])
def test_occlusion_is_that_of_a_loop(network: Modules, images: Tensor, window: int, stride: int):
    whole = second(network(images)).detach()
    falls, counts = torch.zeros(2, 12, 10), torch.zeros(12, 10)
    high, wide = min(window, 12), min(window, 10)
    down, across = min(stride, high), min(stride, wide)
    for top in range(0, 12 - high + down, down):
        for left in range(0, 10 - wide + across, across):
            covered = images.clone()
            covered[:, :, top : top + high, left : left + wide] = 0.3
            fall = whole - second(network(covered)).detach()
            falls[:, top : top + high, left : left + wide] += fall[:, None, None]
            counts[top : top + high, left : left + wide] += 1
    found = occlusion(network, images, second, window, stride, baseline=0.3)
    torch.testing.assert_close(found, falls / counts, **CLOSE)


def test_occlusion_tells_the_extremes_of_single_squares_and_agrees_with_captum(network: Modules, images: Tensor):
    alone = occlusion_map(network, images, second, 4, 2)
    assert alone.shape == (2, 5, 4)
    whole = second(network(images)).detach()
    covered = images.clone()
    covered[:, :, 2:6, 6:10] = 0
    torch.testing.assert_close(alone[:, 1, 3], whole - second(network(covered)).detach(), **CLOSE)
    expected = captum.Occlusion(network).attribute(images, (3, 4, 4), (3, 2, 2), baselines=0, target=1)
    torch.testing.assert_close(averaged(alone, (12, 10), 4, 2), expected[:, 0], **CLOSE)

    found = model_of(Sides()).explain(picture(20, 40), "occlusion", steps=6)
    (squares,), (maps,) = found.values["squares"], found.values["maps"]
    assert squares.max() > maps.max()  # overlapping squares are averaged
    assert f"One square alone costs {squares.max():.2f} of" in found.to_html()
    assert extremes(torch.tensor([0.5, 1.0]), 2.0) == "One square alone costs 1.00 of 2.00, none raises it."
    assert extremes(torch.tensor([-0.5, 1.0]), 2.0) == "One square alone costs 1.00 of 2.00, another raises it by 0.50."
    assert extremes(torch.tensor([-0.5, -0.1]), 2.0) == "No square lowers it; one raises it by 0.50."


def test_smooth_gradient_is_a_mean_of_noisy_ones_and_a_function_of_the_seed(network: Modules, images: Tensor):
    noise = 0.2 * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))[:, None, None, None]
    generator = torch.Generator().manual_seed(5)
    copies = [images + noise * torch.randn(images.shape, generator=generator) for _ in range(4)]
    expected = torch.stack([gradient(network, one, second) for one in copies]).mean(0)
    torch.manual_seed(99)
    found = smooth_gradient(network, images, second, 4, 0.2, seed=5)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert torch.equal(smooth_gradient(network, images, second, 2, 0.0), gradient(network, images, second))


def test_layers_in_place_and_shared_are_told_apart(images: Tensor):
    torch.manual_seed(0)
    module = Residual().eval()
    network = readable_copy(module)
    # the activation behind it works in place, and so does the addition
    for name in ("stem", "norm", "relu"):
        layer = find_layer(network, name)
        found = grad_cam(network, images, second, layer)
        kept: list[Tensor] = []

        def keep(layer: nn.Module, inputs: object, output: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(output)
            return output * 1.0

        handle = layer.register_forward_hook(keep)
        total = second(network(images.clone().requires_grad_())).sum()
        handle.remove()
        (slope,) = torch.autograd.grad(total, kept[0])
        expected = (slope.mean((2, 3), keepdim=True) * kept[0]).sum(1).relu()
        torch.testing.assert_close(found, expected.detach(), **CLOSE)
    assert grad_cam(network, images, second, find_layer(network, "shared")).shape == (2, 12, 10)
    with pytest.raises(UsageError, match="no maps"):
        grad_cam(network, images, second, find_layer(network, "fc"))


def test_the_users_model_stays_as_it_was():
    model = model_of(Residual())
    model.module.requires_grad_(True)
    flags = {name: layer.inplace for name, layer in model.module.named_modules() if hasattr(layer, "inplace")}
    weights = {name: values.clone() for name, values in model.module.state_dict().items()}
    for how in ("gradcam", "guided", "integrated", "occlusion", "saliency", "sanity", "features", "filters"):
        options = {name: value for name, value in (("steps", 2), ("layer", "stem")) if name in METHODS[how].takes}
        model.explain(picture(), how, **options)
    assert {name: layer.inplace for name, layer in model.module.named_modules() if hasattr(layer, "inplace")} == flags
    assert any(flags.values())
    assert all(torch.equal(values, weights[name]) for name, values in model.module.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.module.parameters())
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in model.module.modules())
    assert not model.module.training


@pytest.mark.parametrize("how", ["saliency", "integrated", "occlusion", "guided"])
def test_maps_lie_where_the_reason_is(how: str):
    steps = {} if how == "guided" else {"steps": 8}
    found = model_of(Sides()).explain(picture(20, 40), how, **steps)
    (values,) = found.values["maps"]
    assert values.shape == (20, 40)
    assert found.values["labels"] == ["left"]
    # the left half is bright and speaks for left; the right one is dark, which does so too
    assert values[:, 2:18].mean() > 0
    assert values[:, 22:38].mean() > (0 if how != "guided" else -1)
    other = model_of(Sides()).explain(picture(20, 40), how, label="right", **steps).values["maps"][0]
    if how in ("integrated", "occlusion"):
        torch.testing.assert_close(other, -values, rtol=1e-4, atol=1e-5)


def test_integrated_gradients_say_what_they_add_up_to():
    found = model_of(Sides()).explain(picture(16, 16), "integrated")
    rise = found.values["evidence"][0] - found.values["baseline"][0]
    assert float(found.values["maps"][0].sum()) == pytest.approx(rise, rel=1e-4)
    assert found.values["gap"][0] < 1e-4


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(40, 90), (90, 40), (33, 33), (16, 24), (90, 20)])
def test_maps_return_to_the_pixels_that_they_speak_of(fit: str, size: tuple[int, int]):
    preprocess = Preprocess(size=(32, 48), fit=fit, crop_ratio=0.8)  # type: ignore[arg-type]
    ramp_x = torch.linspace(20, 220, size[1]).expand(size).to(torch.uint8)
    ramp_y = torch.linspace(20, 220, size[0])[:, None].expand(size).to(torch.uint8)
    photo = torch.stack((ramp_x, ramp_y, torch.full(size, 200)))
    seen = eval_transform(preprocess)(photo.to(torch.uint8)).float()
    back = on_picture(seen, size, preprocess)
    shown = was_seen(size, preprocess)
    assert back.shape == (3, *size)
    assert bool((back[:, ~shown] == 0).all())
    inner = F.max_pool2d((~shown)[None].float(), 9, 1, 4)[0] == 0  # resizing blurs at the edges of what was seen
    inner[: size[0] // 8 + 1] = inner[-(size[0] // 8) - 1 :] = False
    inner[:, : size[1] // 8 + 1] = inner[:, -(size[1] // 8) - 1 :] = False
    steps = torch.tensor([200 / size[1], 200 / size[0], 1.0])[:, None]
    assert bool(((back - photo)[:, inner].abs() <= 3 + 2 * steps).all())
    if fit != "crop":
        assert bool(shown.all())
    elif size in ((40, 90), (90, 40)):
        assert not bool(shown.all())


def test_evidence_of_detectors_is_that_of_their_strongest_detection():
    for architecture in ("fcos", "faster_rcnn/resnet18", "yolov3_tiny", "fast_rcnn", "fcos_resnet50_fpn/squeezenet1_1"):
        model = zoo_model("detect", architecture, 64)
        explained = ExplainedModel.of(model)
        images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        leaf = images.clone().requires_grad_()
        outputs = explained.network(leaf)
        best = model.task.coder.detections(outputs)[0]
        for label in range(len(CLASSES)):
            rows = best[best[:, 5] == label]
            evidence = model.task.class_score(outputs, label).detach()
            if len(rows):  # log-odds of its score
                assert float(evidence.sigmoid()) == pytest.approx(float(rows[:, 4].max()), rel=1e-4), architecture
        assert int(model.task.predicted_class(outputs)) == max(
            range(len(CLASSES)), key=lambda label: float(model.task.class_score(outputs, label).detach())
        )
        (slope,) = torch.autograd.grad(model.task.class_score(outputs).sum(), leaf)
        assert slope.abs().sum() > 0, architecture


@pytest.mark.parametrize("architecture", ["rcnn", "sliding"])
def test_detectors_that_do_not_see_the_whole_picture_say_so(architecture: str):
    with pytest.raises(UsageError, match="this detector"):
        zoo_model("detect", architecture, 64).explain(picture(64, 64))


def test_log_odds_keep_a_gradient_when_all_is_sure():
    from striate.tasks.detect.outputs import log_odds

    logits = torch.tensor([-30.0, -3.0, 0.0, 5.0, 12.0, 30.0], requires_grad=True)
    found = log_odds(F.logsigmoid(logits))
    torch.testing.assert_close(found[:5], logits[:5], rtol=1e-3, atol=1e-3)
    (slope,) = torch.autograd.grad(found.sum(), logits)
    assert bool((slope > 0.5).all())


@pytest.mark.parametrize("task", ["score", "localize", "keypoints", "detect"])
def test_every_task_can_be_explained(task: str):
    if task == "score":
        model = model_of(Sides(), task="classify")
        model.card.classes[:] = ["1", "2"]
        from striate.tasks import create_task

        model.task = create_task("score", classes=["1", "2"])
    else:
        architecture = {"localize": "resnet20_cifar", "keypoints": "soft/resnet18", "detect": "fcos"}[task]
        model = zoo_model(task, architecture, 64)
    found = model.explain(picture(40, 60), "saliency", steps=2)
    assert found.values["maps"][0].shape == (40, 60)
    assert found.values["maps"][0].max() > 0
    assert (found.values["labels"][0] is None) == (task in ("score", "keypoints"))
    assert "data:image/webp" in found.to_html()


def test_coordinates_alone_are_refused():
    with pytest.raises(UsageError, match="head soft"):
        zoo_model("keypoints", "regression/resnet18", 64).explain(picture())


def test_the_deepest_maps_are_of_the_last_stage_that_has_places():
    for architecture, expected in (("resnet20_cifar", "layer3"), ("conv8-relu-pool-conv16-relu-gap", None)):
        explained = ExplainedModel.of(zoo_model(architecture=architecture))
        (one,), _ = look_at(explained, Request(picture()))
        name, layer = deepest_maps(explained, one)
        assert expected is None or name == expected
        assert layer is find_layer(explained.network, name)
    flat = model_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 2)))
    with pytest.raises(UsageError, match="no feature maps"):
        flat.explain(picture())


def test_maps_of_few_places_are_left_for_finer_ones_or_told():
    """Of 16 pixels ResNet-20 makes maps of 16, 8 and 4 places; of 8 pixels the last has two and is passed over."""
    for size, expected in ((16, "layer3"), (8, "layer2")):
        model = zoo_model(size=size)
        assert model.explain(picture()).values["layers"] == [expected]
    found = model.explain(picture(), layer="layer3")
    assert found.notes[0] == "layer3 has only 2 x 2 places; try --layer layer2"
    assert not model.explain(picture()).notes
    tiny = zoo_model(size=2).explain(picture())
    assert tiny.values["layers"] == ["stem"]
    assert "only 2 x 2 places" in tiny.notes[0]
    assert "try" not in tiny.notes[0]


def test_what_a_detector_does_not_report_is_called_a_candidate():
    model = zoo_model("detect", "fcos", 64)
    model.task.thresholds = [1.0, 1.0]
    found = model.explain(picture(64, 64), label="right")
    assert "The model reports no right here" in found.sections[0].text
    assert "HiResCAM is Grad-CAM" in found.notes[0]
    model.task.thresholds = [0.0, 0.0]
    assert "The model says: 1 right" in model.explain(picture(64, 64), label="right").sections[0].text


def test_classes_by_name_by_index_and_several():
    model = model_of(Sides())
    by_name = model.explain(picture(), "occlusion", label="right")
    for label in (1, [1], ["right"]):
        found = model.explain(picture(), "occlusion", label=label)
        assert found.values["labels"] == ["right"]
        assert torch.equal(found.values["maps"][0], by_name.values["maps"][0])
    assert model.explain(picture(), "occlusion", label=["right", 0]).values["labels"] == ["left"]  # the stronger
    for wrong, said in (
        (2, "no class has the index 2"),
        (-1, "index -1"),
        (1.5, "label must be"),
        ([], "label must be"),
    ):
        with pytest.raises(UsageError, match=said):
            model.explain(picture(), label=wrong)


def test_progress_is_told_picture_by_picture():
    for how in ("gradcam", "guided", "saliency", "integrated", "occlusion"):
        told: list[str] = []
        options = {"steps": 2} if "steps" in METHODS[how].takes else {}
        model_of(Sides()).explain([picture(), picture()], how, layer=None, say=told.append, **options)
        assert len(told) == 2
        assert told[1].endswith("(2 of 2)")


def test_small_objects_are_explained_by_finer_maps():
    explained = ExplainedModel.of(zoo_model("detect", "fcos", 64))
    (one,), _ = look_at(explained, Request(picture(64, 64)))
    stages = {}
    for side in (60.0, 30.0, 14.0, 2.0):
        found = dataclasses.replace(one.result, boxes=torch.tensor([[0, 0, side, side / 2]]))
        stages[side] = deepest_maps(explained, one._replace(result=found))[0]
    pyramid = backbone_in(explained.network).pyramid  # type: ignore[union-attr]
    assert [pyramid[name].reduction for name in stages.values()] == [16, 8, 4, 1]


def test_the_same_object_is_followed_when_another_becomes_stronger():
    """Two bright squares of one class; the evidence of the one explained must not jump to the other."""

    class Squares(nn.Module):
        coder = FCOSCoder()

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            cells = F.avg_pool2d(images.mean(1, keepdim=True), 8)  # [B, 1, 4, 4]
            logits = cells.flatten(2).mT.repeat(1, 1, 2) * torch.tensor([1.0, -1.0])
            distances = torch.full((len(images), 16, 4), 4.0)
            sizes = {"level_sizes": torch.tensor([[4, 4]]), "image_size": image_size(images)}
            return {"logits": logits, "distances": distances, **sizes}

    model = model_of(Squares(), (32, 32), task="detect")
    photo = torch.full((3, 32, 32), 20, dtype=torch.uint8)
    photo[:, :8, :8], photo[:, 16:24, 24:] = 240, 230
    found = model.explain(photo, "occlusion", steps=4, label="left").values["maps"][0]
    assert found[:8, :8].mean() > 1
    assert found[16:24, 24:].abs().max() < 1e-5
    whole = model.explain(photo, "integrated", label="left")
    assert whole.values["maps"][0][:8, :8].sum() > 1
    assert whole.values["maps"][0][8:].abs().max() < 1e-5
    assert whole.values["gap"][0] < 1e-4


def test_wrong_names_are_told_with_a_suggestion():
    model = zoo_model()
    for options, said in (
        ({"label": "lef"}, 'Did you mean "left"'),
        ({"layer": "layer4"}, 'Did you mean "layer'),
        ({"how": "gradcem"}, 'Did you mean "gradcam"'),
        ({"how": "occlusion", "steps": 0}, "steps must be"),
        ({"limit": -1}, "limit must be"),
        ({"lable": "left"}, 'Did you mean "label"'),
    ):
        with pytest.raises(UsageError, match=said):
            model.explain(picture(), **options)
    with pytest.raises(UsageError, match="needs pictures"):
        model.explain()


def test_unreadable_pictures_are_skipped_and_told(tmp_path: Path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    Image.fromarray(picture().movedim(0, 2).numpy()).save(tmp_path / "good.png")
    told: list[str] = []
    found = model_of(Sides()).explain(str(tmp_path), "occlusion", steps=2, say=told.append)
    assert len(found.values["maps"]) == 1
    assert "bad.jpg" in told[0]
    assert "bad.jpg" in found.notes[0]
    with pytest.raises(DataError, match=r"bad\.jpg"):
        model_of(Sides()).explain(str(tmp_path / "bad.jpg"))
    limited = model_of(Sides()).explain([picture(seed=seed) for seed in range(4)], "occlusion", steps=2, limit=3)
    assert len(limited.values["maps"]) == 3


def test_of_two_classes_with_one_name_the_stronger_is_explained():
    model = model_of(Sides())
    model.task.classes = ("crane", "crane")
    explained = ExplainedModel.of(model)
    (one,), _ = look_at(explained, Request(picture(), label="crane"))
    assert one.label == 0
    (dark,), _ = look_at(explained, Request(picture().flip(2), label="crane"))
    assert dark.label == 1


def test_damaged_weights_are_told():
    module = Sides()
    module.body.weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        model_of(module).explain(picture())


def test_the_box_is_that_of_the_explained_detection():
    model = zoo_model("detect", "fcos", 64)
    explained = ExplainedModel.of(model)
    (one,), _ = look_at(explained, Request(picture(64, 64), label="right"))
    assert one.label == 1
    assert one.result.labels.tolist() == [1]
    assert float(one.result.scores) == pytest.approx(torch.tensor(one.class_score).sigmoid().item(), rel=1e-4)
    again = explained_image(explained, one.source, one.picture, one.images, [])
    assert again.label == int(model.task.predicted_class(explained.network(one.images)))


def test_heat_covers_what_matters_and_dims_what_was_not_seen():
    photo = torch.full((3, 40, 40), 128, dtype=torch.uint8)
    found, seen = torch.zeros(40, 40), torch.ones(40, 40, dtype=torch.bool)
    found[10:20, 10:20] = 2.0
    seen[:, 30:] = False
    drawn = heat(photo, found, seen)
    factor = drawn.shape[-1] // 40
    spot, plain, dark = (drawn[:, 15 * factor, x * factor] for x in (15, 25, 35))
    assert spot[0] - spot[2] > 0.2  # yellow
    assert float(plain[0]) == pytest.approx(float(plain[2]), abs=0.02)
    assert dark.mean() < 0.6 * plain.mean()
    assert torch.equal(heat(photo, torch.zeros(40, 40), seen), heat(photo, torch.zeros(40, 40), seen))
