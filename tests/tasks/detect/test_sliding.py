"""Sliding windows against crops: to the last bit where sums are of whole numbers, and the lecture's example."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from striate.backbones import create_model
from striate.config import ModelCard, Preprocess
from striate.data.targets import CROWD, Objects
from striate.errors import UsageError
from striate.explain.score_map import draw_score_map, score_map, slide
from striate.model import Model
from striate.tasks.detect.outputs import collate_objects
from striate.tasks.detect.sliding import fully_convolutional, multiply_adds, score_crops
from striate.tasks.detect.sliding_window import SlidingWindow, sample_windows

LECTURE = "conv16k5p0-relu-pool-fc400-relu-fc400-relu"  # 14 × 14 × 3 → 10 × 10 × 16 → 5 × 5 × 16 → 400 → 400 → 4
SMALL = "conv8k5s2p0-bn-relu-conv8p0-relu-pool-fc8-bn-relu"


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def whole_numbers(network: nn.Module) -> nn.Module:
    """Weights of -1, 0 and 1 in double precision: every sum is exact, in whatever order it is taken."""
    for parameter in network.parameters():
        parameter.data = torch.randint(-1, 2, parameter.shape).double()
    return network.double().eval()


def lecture_network() -> nn.Module:
    return create_model(LECTURE, num_classes=4, image_size=(14, 14))


@pytest.mark.parametrize(("side", "places"), [(14, 1), (16, 2), (28, 8)])
def test_the_lecture(side, places):
    """Lecture 4: a window of 14; a picture of 16 gives 2 × 2 scores, one of 28 gives 8 × 8, at a stride of 2."""
    network = whole_numbers(lecture_network())
    convolutional = fully_convolutional(network)
    assert (convolutional.window, convolutional.stride) == ((14, 14), 2)
    image = torch.randint(0, 256, (1, 3, side, side)).double()
    scores = convolutional(image)
    assert scores.shape == (1, 4, places, places)
    assert torch.equal(scores[0].permute(1, 2, 0), score_crops(network, image, 14, 2))
    kernels = [tuple(layer.weight.shape) for layer in convolutional.layers if isinstance(layer, nn.Conv2d)]
    assert kernels == [(16, 3, 5, 5), (400, 16, 5, 5), (400, 400, 1, 1), (4, 400, 1, 1)]


def test_the_lecture_counted_by_hand():
    """Of 16 × 16: conv 12² · 16 · 75, then at each of 2 × 2 places 400 · 400, 400 · 400 and 4 · 400."""
    costs = multiply_adds(lecture_network(), (3, 16, 16))  # type: ignore[arg-type]
    dense = 400 * 400 + 400 * 400 + 4 * 400
    assert costs.windows == 4
    assert costs.crops == 4 * (10 * 10 * 16 * 75 + dense)
    assert costs.convolutional == 12 * 12 * 16 * 75 + 4 * dense
    assert costs.saving == pytest.approx(costs.crops / costs.convolutional)


@pytest.mark.parametrize(
    ("line", "window"),
    [
        ("conv6p0-relu-conv5k5s2p0-relu-maxpool3s2-fc7-relu", 21),
        ("conv6p0-relu-conv5k2p0-relu-pool-flatten-relu-fc6-drop0.5-fc5", 12),
        ("conv6k4s2p0-relu-maxpool2-conv4k1p0", 27),  # 27 pixels leave some unseen, and 3 × 3 cells are averaged
        ("fc9-relu", 6),  # no convolution at all
    ],
)
def test_unpadded_chains_give_the_scores_of_crops_exactly(line, window):
    network = whole_numbers(create_model(line, num_classes=3, in_chans=2, image_size=(window, window)))
    convolutional = fully_convolutional(network, window)
    for height, width in ((window, window), (window + 7, window + 18), (window + 1, window + 12)):
        image = torch.randint(0, 9, (1, 2, height, width)).double()
        crops = score_crops(network, image, window, convolutional.stride)
        torch.testing.assert_close(convolutional(image)[0].permute(1, 2, 0), crops, rtol=1e-13, atol=1e-13)


def test_crops_are_cut_where_they_should_be():
    class Corner(nn.Module):
        def forward(self, images):
            assert images.shape[-2:] == (3, 4)
            return images[:, :, 0, 0]

    image = torch.arange(80.0).reshape(1, 1, 8, 10)
    scores = score_crops(Corner(), image, (3, 4), 2)
    assert torch.equal(scores[..., 0], image[0, 0, :6:2, :7:2])


@pytest.mark.parametrize(
    ("name", "window", "arguments"),
    [
        ("lenet5", None, {"in_chans": 1}),
        ("mlp", None, {"in_chans": 1}),
        ("conv4p0-bn-relu-pool-bn-fc6-bn-relu-drop0.3-fc5", None, {"image_size": (16, 16)}),
    ],
)
def test_batch_norms_and_tanh(name, window, arguments):
    network = create_model(name, num_classes=3, **arguments).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    convolutional = fully_convolutional(network, window).eval()
    height, width = convolutional.window
    image = torch.randn(1, arguments.get("in_chans", 3), height + 9, width + 6)
    crops = score_crops(network, image, convolutional.window, convolutional.stride)
    torch.testing.assert_close(convolutional(image)[0].permute(1, 2, 0), crops, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "window"),
    [("squeezenet1_1", 32), ("resnet20_cifar", 32), ("preact_resnet20_cifar", 32), ("mini_xception", 48)],
)
def test_one_window_alone_is_the_same_even_with_padding(name, window):
    network = create_model(name, num_classes=3).eval()
    convolutional = fully_convolutional(network, window)
    image = torch.randn(2, 3, window, window)
    torch.testing.assert_close(convolutional(image)[:, :, 0, 0], network(image), rtol=1e-4, atol=1e-5)
    larger = torch.randn(1, 3, window + 2 * convolutional.stride + 1, window + convolutional.stride)
    assert convolutional(larger).shape == (1, 3, 3, 2)


@pytest.mark.parametrize("window", [32, 64, 96])  # maps of 1, 2 and 3 cells, which VGG's pooling spreads over 7 × 7
def test_an_adaptive_pooling_is_folded_into_the_kernel(window):
    network = create_model("conv4k1p0-maxpool32-gap", num_classes=3).eval()
    network.gap1, network.fc = nn.AdaptiveAvgPool2d((7, 7)), nn.Linear(4 * 49, 3)  # type: ignore[assignment]
    convolutional = fully_convolutional(network, window)
    image = torch.randn(1, 3, window + 32, window + 64)
    crops = score_crops(network, image, window, 32)
    assert crops.shape == (2, 3, 3)
    torch.testing.assert_close(convolutional(image)[0].permute(1, 2, 0), crops, rtol=1e-4, atol=1e-5)


def test_it_shares_the_weights_and_draws_nothing():
    network = lecture_network()
    before = torch.random.get_rng_state()
    convolutional = fully_convolutional(network)
    assert torch.equal(before, torch.random.get_rng_state())
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Linear))
    assert convolutional.layers[3].weight.data_ptr() == first.weight.data_ptr()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "nasnetamobile"])
def test_networks_that_cannot(name):
    with pytest.raises(UsageError, match="cannot be made fully convolutional"):
        fully_convolutional(create_model(name, num_classes=2), 64)


def test_windows_that_cannot_be():
    network = lecture_network()
    with pytest.raises(UsageError, match=r"built for pictures of 14x14, so its window cannot be 20x20"):
        fully_convolutional(network, 20)
    with pytest.raises(UsageError, match=r"a window of 14x14 does not fit in a picture of 13x40"):
        fully_convolutional(network)(torch.zeros(1, 3, 13, 40))
    with pytest.raises(UsageError, match="does not fit"):
        score_crops(network, torch.zeros(1, 3, 40, 13), 14, 2)
    with pytest.raises(UsageError, match="only a classifier of the zoo"):
        fully_convolutional(nn.Linear(2, 2))


# --- the detector ---


def some_target(rows: int = 12) -> torch.Tensor:
    boxes = [[10, 10, 50, 40], [80, 60, 100, 140], [120, 5, 134, 21], [20, 90, 70, 150]]
    return collate_objects([Objects.of(boxes, [0, 1, 2, 0], kinds=[0, 0, 0, CROWD])], rows)[0]


def test_sampled_windows():
    target = some_target()
    for _ in range(20):
        windows, labels = sample_windows(target, (160, 160), background=3, count=32)
        sides = windows[:, 2:] - windows[:, :2]
        torch.testing.assert_close(sides[:, 0], sides[:, 1])
        objects, empty = windows[labels < 3], windows[labels == 3]
        assert len(objects) == 8
        assert 16 <= len(empty) <= 24
        # each shows its object: the middle near, the side about 1.2 times the longer side
        truth = target[:3]
        own = truth[torch.cat([torch.where(truth[:, 4] == label)[0] for label in labels[labels < 3]])]
        longer = (own[:, 2:4] - own[:, :2]).amax(1)
        ratio = sides[labels < 3, 0] / longer
        assert ratio.amin() >= 1.2 / math.sqrt(1.35) - 1e-4
        assert ratio.amax() <= 1.2 * math.sqrt(1.35) + 1e-4
        away = ((objects[:, :2] + objects[:, 2:]) - (own[:, :2] + own[:, 2:4])).abs().amax(1) / 2
        assert (away <= sides[labels < 3, 0] / 12 + 1e-4).all()
        assert box_iou(empty, truth[:, :4]).max() < 0.3
        crowd = target[3, :4]
        shared = (torch.minimum(empty[:, 2:], crowd[2:]) - torch.maximum(empty[:, :2], crowd[:2])).clamp(min=0).prod(1)
        assert (shared / sides[labels == 3].prod(1) < 0.3).all()


def test_pictures_without_objects_give_background_only():
    windows, labels = sample_windows(collate_objects([None])[0], (64, 96), background=5, count=16)
    assert len(windows) == 16
    assert (labels == 5).all()


def test_training_learns_and_empty_targets_do_no_harm():
    detector = SlidingWindow(SMALL, num_classes=3, window=24, crops=16).train()
    images = torch.randn(2, 3, 96, 160)
    targets = torch.stack((some_target(), collate_objects([None], 12)[0]))
    losses = detector.coder.losses(detector(images, targets), targets)
    losses["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())
    assert detector.proportions[:, 2].tolist() == [1, 1, 1]  # the crowd does not count
    torch.testing.assert_close(detector.shape_of(torch.tensor([1]))[0], torch.tensor([0.25, 1.0]))
    empty = collate_objects([None, None])
    assert detector.coder.losses(detector(images, empty), empty)["loss"].isfinite()
    with pytest.raises(RuntimeError, match=r"call eval\(\)"):
        detector.coder.detections(detector(images, empty))


def test_the_pyramid_reaches_from_the_smallest_object_to_the_whole_picture():
    detector = SlidingWindow(SMALL, num_classes=2, window=24, margin=0.1, smallest=10, step=1.5)
    scales = list(detector.scales(100, 60))
    sides = [20 / scale for scale in scales]  # a window of 24 shows an object of 20
    assert sides[0] == pytest.approx(10)
    assert sides[-2] < 100 <= sides[-1]
    assert [b / a for a, b in pairwise(sides)] == pytest.approx([1.5] * (len(sides) - 1))


class Bright(nn.Module):
    """Sees class 0 where the middle 20 × 20 pixels of a window of 24 are bright and its rim is dark."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        template = torch.full((24, 24), -1 / (24 * 24 - 20 * 20))
        template[2:22, 2:22] = 1 / 400
        fits = (crops[:, 0] * template).sum((1, 2))  # 1 at best
        return torch.stack((20 * (fits - 0.7), torch.full_like(fits, -20), torch.zeros_like(fits)), 1)


@pytest.mark.parametrize(("left", "top", "side"), [(30, 40, 20), (4, 5, 31), (60, 10, 45)])
def test_boxes_come_back_where_the_object_is(left, top, side):
    detector = SlidingWindow(SMALL, num_classes=2, window=24, margin=0.1, smallest=14, step=1.2).eval()
    detector.classifier, detector.by_crops = Bright(), True  # type: ignore[assignment]
    image = torch.zeros(1, 3, 96, 128)
    image[:, :, top : top + side, left : left + side] = 1
    found = detector.coder.detections(detector(image), 10)[0]
    assert found[0, 5] == 0
    assert box_iou(found[:1, :4], torch.tensor([[left, top, left + side, top + side]]).float()) > 0.6


@pytest.mark.parametrize("size", [(8, 8), (16, 70), (96, 64)])
def test_judging_pictures_of_any_size_also_smaller_than_the_window(size):
    detector = SlidingWindow(SMALL, num_classes=3, window=24, smallest=14, step=2.0, least_score=0.0).eval()
    with torch.no_grad():
        found = detector.coder.detections(detector(torch.randn(2, 3, *size)), 20)
    assert found.shape == (2, 20, 6)
    assert found.isfinite().all()
    there = found[found[..., 5] >= 0]
    assert len(there)
    assert (there[:, :4] >= 0).all()
    assert (there[:, 2] <= size[1]).all()
    assert (there[:, 3] <= size[0]).all()


def test_crops_and_one_pass_find_the_same():
    detector = SlidingWindow(SMALL, num_classes=2, window=32, smallest=24, step=1.6, least_score=0.1).eval()
    other = copy.deepcopy(detector)
    other.by_crops = True  # 32 / 8 = 4 is the network's own stride
    image = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        rows, same = (one.coder.detections(one(image), 20) for one in (detector, other))
    torch.testing.assert_close(rows, same, rtol=1e-3, atol=1e-3)


def test_wrong_arguments():
    with pytest.raises(UsageError, match="above 1"):
        SlidingWindow(SMALL, 2, window=24, step=1.0)
    with pytest.raises(UsageError, match="needs windows of 63 or more, not 48"):
        SlidingWindow("alexnet", 2)


# --- any trained classifier ---


def classifier(architecture: str = "conv4k2s2p0-gap", size: int = 8) -> Model:
    """Sees "bright" where a window is bright on the average, else "dark"."""
    arguments = {"image_size": [size, size]} if "fc" in architecture else {}
    card = ModelCard(
        task="classify",
        architecture=architecture,
        arguments=arguments,
        classes=["dark", "bright"],
        preprocess=Preprocess(size=(size, size), mean=(0.5,) * 3, std=(0.5,) * 3),
    )
    network = create_model(architecture, num_classes=2, **arguments)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.conv1.weight.fill_(1 / 12)
        network.fc.weight[1].fill_(5.0)
    return Model(network, card, "cpu")


def picture() -> torch.Tensor:
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[:, 12:28, 20:36] = 255
    return image


def test_any_classifier_slides():
    model = classifier()
    found = score_map(model, picture())
    assert found.one_pass
    assert found.scores.shape == (2, 17, 27)
    assert found.stride == (2, 2)
    torch.testing.assert_close(found.scores.sum(0), torch.ones(17, 27))
    detections = slide(model, picture(), window=16, background="dark")
    assert set(detections.labels.tolist()) == {1}
    assert box_iou(detections.boxes[:1], torch.tensor([[20.0, 12, 36, 28]])) == 1
    assert len(slide(model, picture(), window=16)) > len(detections)  # without a background all counts


def test_a_stride_of_its_own_goes_by_crops_and_a_multiple_does_not():
    model = classifier()
    every, third, fourth = (score_map(model, picture(), stride=stride) for stride in (2, 3, 4))
    assert (third.one_pass, fourth.one_pass) == (False, True)
    torch.testing.assert_close(fourth.scores, every.scores[:, ::2, ::2])
    torch.testing.assert_close(third.scores[:, ::2, ::2], every.scores[:, ::3, ::3], rtol=1e-4, atol=1e-5)


def test_sliding_asks_for_what_it_needs():
    model = classifier()
    with pytest.raises(UsageError, match=r"window of 50x50 does not fit in a picture of 40x60"):
        slide(model, picture(), window=50)
    with pytest.raises(UsageError, match=r'background: "drak" is not one of the classes\. Did you mean "dark"'):
        slide(model, picture(), background="drak")
    with pytest.raises(UsageError, match=r"0\.\.1"):
        slide(model, picture(), threshold=2)
    with pytest.raises(UsageError, match="at least 1"):
        slide(model, picture(), stride=0)
    with pytest.raises(UsageError, match="one picture"):
        slide(model, [picture()])


def test_the_map_is_drawn_over_the_picture():
    found = score_map(classifier(), picture())
    figure = draw_score_map(found, "bright")
    assert "bright: 17 × 27 windows" in figure.axes[0].get_title()
    with pytest.raises(UsageError, match="is not one of the classes"):
        draw_score_map(found, "brihgt")
