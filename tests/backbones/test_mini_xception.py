"""Mini-Xception against Keras: its count, its windows, its public weights on real faces."""

import sys

import pytest
import torch
from referee import as_trained
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_image

from striate.backbones.keras_weights import read_keras_weights
from striate.backbones.mini_xception import MODELS, MaxPoolSame, MiniXception
from striate.errors import DataError, MissingExtra
from striate.network_summary import summarize

PUBLIC = "fer2013_mini_XCEPTION.102-0.66.hdf5"
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # the authors' order


@pytest.fixture(scope="module")
def trained(shared_data) -> MiniXception:
    pytest.importorskip("h5py")
    model = MiniXception().eval()
    model.load_state_dict(read_keras_weights(next(shared_data("weights").rglob(PUBLIC))))
    return model


def test_the_count_is_the_authors():
    """Keras counts the statistics of batch norms among the parameters."""
    model = MODELS["mini_xception"].build()
    numbers = [value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")]
    assert sum(value.numel() for value in numbers) == 58_423  # ../shared/NUMBERS.md
    assert summarize(model, (1, 64, 64)).parameters == 58_423 - 2 * (8 + 8 + 3 * (16 + 32 + 64 + 128))


@pytest.mark.parametrize("size", [(4, 7), (9, 6)])
def test_pooling_is_kerass_same(size):
    """Keras makes ⌈n / 2⌉ windows; what they lack in pixels is split, and an odd one lacks on the far side."""
    values = torch.randn(1, 1, *size) - 5  # a zero as padding would win
    pooled = MaxPoolSame(stride=2, dilation=1)(values)
    places = [-(-side // 2) for side in size]
    starts = [
        [2 * index - max((count - 1) * 2 + 3 - side, 0) // 2 for index in range(count)]
        for count, side in zip(places, size, strict=True)
    ]
    assert pooled.shape[2:] == tuple(places)
    for row, top in enumerate(starts[0]):
        for column, left in enumerate(starts[1]):
            window = values[0, 0, max(0, top) : top + 3, max(0, left) : left + 3]
            assert pooled[0, 0, row, column] == window.max()


@pytest.mark.parametrize(
    ("size", "logits"),
    [  # of Keras 3.15.1 with this file
        ((64, 64), (2.0853, -9.5822, 1.2023, 6.8301, 2.4811, 1.404, -3.2997)),
        ((48, 53), (-0.4037, -8.733, 0.3519, 3.1819, 2.2091, -1.149, 1.2636)),
    ],
)
def test_outputs_of_the_public_weights_are_kerass(trained, size, logits):
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])[None, :]
    picture = torch.sin(rows * columns / 50.0)
    with torch.no_grad():
        ours = trained(picture[None, None])[0]
    torch.testing.assert_close(ours, torch.tensor(logits), rtol=0, atol=2e-4)


def test_the_public_weights_know_real_faces(trained, shared_data):
    """66 % is what their name says of FER-2013; these are smoothed JPEG copies, as many of each rare emotion."""
    folder = next(path for path in shared_data("fer2013").rglob("validation") if path.is_dir())
    files = sorted(folder.glob("*/*.jpg"))
    faces = torch.stack([decode_image(str(path), ImageReadMode.GRAY) for path in files]) / 255
    labels = torch.tensor([EMOTIONS.index(path.parent.name) for path in files])
    with torch.inference_mode():
        larger = F.interpolate(faces, (64, 64), mode="bilinear")
        answers = trained((larger - 0.5) * 2).argmax(1)
    assert len(files) == 342
    assert (answers == labels).float().mean().item() == pytest.approx(0.538, abs=0.01)
    happy = labels == EMOTIONS.index("happy")
    assert (answers == labels)[happy].float().mean() > 0.8


def test_only_the_order_of_kerass_numbers_counts(tmp_path):
    """A second network of a session goes on counting; h5py gives layers by name, so 10 before 9."""
    h5py = pytest.importorskip("h5py")
    model = MiniXception()
    as_trained(model)
    expected = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    modules = [f"module{number}" for number in range(1, 5)]
    layers = {  # in the order in which the authors' code makes them
        "conv2d": ["conv1", "conv2", *(f"{module}.shortcut.conv" for module in modules), "class_maps"],
        "batch_normalization": ["bn1", "bn2"] + [f"{m}.{n}" for m in modules for n in ("shortcut.bn", "bn1", "bn2")],
        "separable_conv2d": [f"{module}.separable{number}" for module in modules for number in (1, 2)],
    }
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    with h5py.File(tmp_path / "session.h5", "w") as file:
        file["optimizer_weights/conv2d_1/kernel:0"] = [1.0]
        for kind, ours in layers.items():
            for number, layer in enumerate(ours, start=6):
                for key, value in expected.items():
                    if not key.startswith(f"{layer}."):
                        continue
                    parameter = key.removeprefix(f"{layer}.")
                    if kind == "batch_normalization":
                        parameter = names[parameter]
                    elif parameter == "depthwise.weight":
                        parameter, value = "depthwise_kernel", value.permute(2, 3, 0, 1)
                    elif parameter.endswith("weight"):
                        parameter = "kernel" if kind == "conv2d" else "pointwise_kernel"
                        value = value.permute(2, 3, 1, 0)
                    file[f"model_weights/{kind}_{number}/{kind}_{number}/{parameter}:0"] = value.numpy()
    found = read_keras_weights(tmp_path / "session.h5")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_other_files_are_refused(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(DataError, match=r"text\.h5: not a file of Keras weights"):
        read_keras_weights(tmp_path / "text.h5")
    with pytest.raises(DataError, match=r"absent\.h5: not a file of Keras weights"):
        read_keras_weights(tmp_path / "absent.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["dense_1/dense_1/kernel:0"] = [[1.0]]
    with pytest.raises(DataError, match="0 layers of kind conv2d, a mini-Xception has 7"):
        read_keras_weights(tmp_path / "other.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"pip install 'striate\[keras\]'"):
        read_keras_weights(tmp_path / "other.h5")


def test_the_values_between_are_those_of_a_moved_picture():
    """A picture moved by 8 pixels: where the stride of 16 stops then, far from the borders."""
    strided, dilated = MiniXception(num_classes=3).eval(), MiniXception(num_classes=3, output_stride=8).eval()
    as_trained(strided)
    dilated.load_state_dict(strided.state_dict())

    def class_maps(model: MiniXception, images: Tensor) -> Tensor:
        return model.class_maps(model.feature_maps(images)["module4"])

    with torch.no_grad():
        images = torch.randn(1, 1, 260, 260)
        fine = class_maps(dilated, images)
        coarse = class_maps(strided, F.pad(images[..., 8:, 8:], (0, 8, 0, 8)))
    inner = slice(5, -5)
    between = fine[..., 1::2, 1::2]
    torch.testing.assert_close(
        between[..., inner, inner], coarse[..., : between.shape[-2], : between.shape[-1]][..., inner, inner]
    )


def test_features_without_classes_are_the_mean_of_the_last_stage():
    model = MiniXception(num_classes=0, in_chans=3).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model.feature_maps(images)["module4"].mean((2, 3)))
    assert [maps.shape[-1] for maps in model.feature_maps(images).values()] == [60, 30, 15, 8, 4]


def test_every_weight_learns():
    model = MiniXception()
    F.cross_entropy(model(torch.randn(3, 1, 48, 48)), torch.tensor([0, 3, 6])).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_initialisation_is_glorots_as_in_keras():
    """Uniform up to √(6 / (fan_in + fan_out)); Keras takes a depthwise kernel's fans as 9·C and 9."""
    torch.manual_seed(0)
    model = MiniXception()
    for weight, fans in ((model.module4.separable2.depthwise.weight, 9 * 128 + 9), (model.conv2.weight, 9 * 8 + 9 * 8)):
        bound = (6 / fans) ** 0.5
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.98 * bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert not model.class_maps.bias.any()
