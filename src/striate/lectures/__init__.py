"""The lectures as a gallery: one module an idea, each computes, checks against what was printed, and draws."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from striate.errors import UsageError, did_you_mean
from striate.lectures.page import Lecture

PARTS = {
    "A": "Foundations",
    "B": "Architectures",
    "C": "Classification at work",
    "D": "Detection",
    "E": "Segmentation",
    "F": "Faces and similarity",
    "G": "Seeing inside",
    "H": "Making pictures, and playing",
}

# id -> what it is; the modules are imported when they are run, so that the list costs nothing. One that is not there
# yet is listed as such; its command, where it has one, works already.
LECTURES: dict[str, Lecture] = {
    "A1": Lecture("Convolution and cross-correlation", "S0 S1 S3 S4", "foundations.convolution"),
    "A2": Lecture("Convolution as matrix multiplication", "S0", "foundations.toeplitz"),
    "A3": Lecture("Classic kernels", "S0 S1", "foundations.kernels"),
    "A4": Lecture("Sizes and counts", "S0 S1 S2 S3 S4", "foundations.counting"),
    "A5": Lecture("A network as a table", "S0", "foundations.layer_table", "striate summary lenet5"),
    "A6": Lecture("Pooling", "S0 S1 S3 S4", "foundations.pooling"),
    "A7": Lecture("Equivariance and invariance", "S0 S1 S2", "foundations.equivariance"),
    "A8": Lecture("Batch and local response normalisation", "S1 S3", "foundations.normalization"),
    "A9": Lecture("Optimisers", "S3", "foundations.optimizers", "striate train digits --optimizer adam"),
    "A10": Lecture("Regularisation", "S0 S2 S4", "foundations.regularization", "striate train digits --mixup 0.2"),
    "B1": Lecture("LeNet-5", "S3 S4", "architectures.lenet", "striate summary lenet5"),
    "B2": Lecture("AlexNet", "S3 S4", "architectures.alexnet", "striate summary alexnet"),
    "B3": Lecture("VGG", "S3 S4", "architectures.vgg", "striate bench models vgg16 resnet50"),
    "B4": Lecture("GoogLeNet: inception", "S3 S4", "architectures.inception", "striate summary googlenet"),
    "B5": Lecture("ResNet: plain against residual", "S3 S4", "architectures.resnet", "striate summary resnet50"),
    "B6": Lecture("ConvNeXt", "S1", "architectures.convnext", "striate summary convnext_tiny"),
    "B7": Lecture("MobileNet: depthwise separable", "S2", "architectures.mobilenet", "striate summary mobilenet_v2"),
    "B8": Lecture("EfficientNet: compound scaling", "S2", "architectures.efficientnet", "striate models efficientnet"),
    "B9": Lecture("NASNet-A: learnt cells", "S3", "architectures.nasnet", "striate summary nasnetalarge"),
    "B10": Lecture("1×1 convolutions, and dense layers as convolutions", "S2 S3", "architectures.one_by_one"),
    "B11": Lecture(
        "A network from one line", "S1 S3", "architectures.chain", 'striate summary "(conv32-relu)x2-pool-fc64"'
    ),
    "C1": Lecture("Classification", "S0 S1 S2 S3 S4", "work.classify", "striate train mnist"),
    "C2": Lecture("Transfer learning", "S1 S2 S3 S4", "work.transfer", "striate train DATA --weights FILE"),
    "C3": Lecture("Scene recognition", "S0", "work.scenes", "striate train labels.csv"),
    "C4": Lecture("Photo evaluation", "S0", "work.rating", "striate train ava/ --weights FILE"),
    "C5": Lecture("Emotion", "S3", "work.emotion", "striate train fer2013/ --model mini_xception"),
    "C6": Lecture("Robustness", "S0", "work.robustness", "striate robustness MODEL DATA"),
    "D1": Lecture("The sliding window", "S2 S4", "detection.sliding", "striate train DATA --model sliding"),
    "D2": Lecture(
        "Classification with localisation", "S2 S4", "detection.localize", "striate train boxes.csv --task localize"
    ),
    "D3": Lecture("Landmarks and pose", "S1 S4", "detection.landmarks", "striate train FACES --model soft/resnet18"),
    "D4": Lecture("Selective search", "S0 S3", "detection.search", "striate train DATA --model rcnn"),
    "D5": Lecture("R-CNN", "S0 S3", "detection.rcnn", "striate train DATA --model rcnn"),
    "D6": Lecture("Fast R-CNN", "S0 S3", "detection.fast_rcnn", "striate train DATA --model fast_rcnn"),
    "D7": Lecture("From R-CNN to YOLO: the speed ladder", "S0 S3", "detection.ladder"),
    "D8": Lecture("YOLO: one look", "S0 S2", "detection.yolo", "striate train DATA --model yolov1"),
    "D9": Lecture("Dimension clusters", "S0", "detection.anchors", "striate data anchors DATA"),
    "D10": Lecture("IoU and non-maximum suppression", "S2", "detection.suppression"),
    "E1": Lecture("FCN", "S3", "segmentation.fcn"),
    "E2": Lecture("U-Net", "S0 S2", "segmentation.unet"),
    "E3": Lecture("DeepLab", "S0 S3", "segmentation.deeplab"),
    "E4": Lecture("Superpixels and face parsing", "S0", "segmentation.parsing"),
    "E5": Lecture("Instance segmentation", "S0", "segmentation.instances"),
    "E6": Lecture("Panoptic segmentation", "S0", "segmentation.panoptic"),
    "F1": Lecture("Verification and recognition", "S2 S4", "faces.verification"),
    "F2": Lecture("Siamese training", "S2 S4", "faces.siamese"),
    "F3": Lecture("Faces in profile", "S0", "faces.profile"),
    "F4": Lecture("Spoof detection", "S0", "faces.spoof"),
    "G1": Lecture("Filters and feature maps", "S0 S1 S2", "seeing.features", "striate explain MODEL --how filters"),
    "G2": Lecture(
        "Top activations and DeconvNet", "S0 S1 S2", "seeing.top", "striate explain MODEL DATA --how deconvnet"
    ),
    "G3": Lecture("Network dissection", "S1", "seeing.dissection", "striate explain MODEL DATA --how dissect"),
    "G4": Lecture("Loss landscapes", "S0", "seeing.landscape", "striate explain MODEL DATA --how landscape"),
    "G5": Lecture("Adversarial examples", "S0", "seeing.adversary", "striate explain MODEL IMAGE --how adversary"),
    "H1": Lecture("Neural style transfer", "S1 S2", "making.style", "striate stylize CONTENT STYLE"),
    "H2": Lecture("Super-resolution and restoration", "S0 S1", "making.restoration"),
    "H3": Lecture("Image-to-image translation", "S0 S1", "making.translation"),
    "H4": Lecture("Convolution with reinforcement learning", "S1", "making.play"),
    "H5": Lecture("A network that trains in the browser", "S3", "making.browser"),
}


def find_lectures(names: Sequence[str]) -> list[str]:
    """Ids in the lectures' order; a name is an id (A1, a1) or a part (A).

    Raises:
        UsageError: no such id or part.
    """
    wanted: set[str] = set()
    for name in names:
        upper = name.upper()
        found = [key for key in LECTURES if upper in (key, key[0])]
        if not found:
            raise UsageError(
                f'no lecture is called "{name}": an id such as A1, or a part, A to H.'
                f"{did_you_mean(upper, LECTURES)} See: striate lectures"
            )
        wanted.update(found)
    return [key for key in LECTURES if key in wanted]


def is_there(lecture: Lecture) -> bool:
    """Whether the id's module has been written; nothing but its package is imported."""
    try:
        return importlib.util.find_spec(f"striate.lectures.{lecture.module}") is not None
    except ModuleNotFoundError:  # not even its package
        return False
