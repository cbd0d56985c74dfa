"""The lectures as a gallery: one module an idea, each computes, checks against what was printed, and draws."""

from __future__ import annotations

from striate.lectures.page import Lecture

# id -> what it is; the modules are imported when they are run, so that the list costs nothing
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
    "C2": Lecture("Transfer learning", "S1 S2 S3 S4", "work.transfer", "striate train DATA --weights FILE"),
    "C6": Lecture("Robustness", "S0", "work.robustness", "striate robustness MODEL DATA"),
    "D1": Lecture("The sliding window", "S2 S4", "detection.sliding", "striate train DATA --model sliding"),
    "D4": Lecture("Selective search", "S0 S3", "detection.search", "striate train DATA --model rcnn"),
    "D7": Lecture("From R-CNN to YOLO: the speed ladder", "S0 S3", "detection.ladder"),
    "D9": Lecture("Dimension clusters", "S0", "detection.anchors", "striate data anchors DATA"),
    "D10": Lecture("IoU and non-maximum suppression", "S2", "detection.suppression"),
    "G1": Lecture("Filters and feature maps", "S0 S1 S2", "seeing.features", "striate explain MODEL --how filters"),
    "G2": Lecture(
        "Top activations and DeconvNet", "S0 S1 S2", "seeing.top", "striate explain MODEL DATA --how deconvnet"
    ),
    "G3": Lecture("Network dissection", "S1", "seeing.dissection", "striate explain MODEL DATA --how dissect"),
    "G4": Lecture("Loss landscapes", "S0", "seeing.landscape", "striate explain MODEL DATA --how landscape"),
    "G5": Lecture("Adversarial examples", "S0", "seeing.adversary", "striate explain MODEL IMAGE --how adversary"),
    "H1": Lecture("Neural style transfer", "S1 S2", "making.style", "striate stylize CONTENT STYLE"),
}
