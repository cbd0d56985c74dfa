"""Side-by-side measurements: `python -m bench` lists them, `python -m bench NAME` runs one."""

# name -> one line; the module of the same name says exactly what is compared
BENCHMARKS = {
    "train_step": "ResNet-50, 224, batch 16, pictures in memory: our training step against the plain torchvision loop",
    "train_jpeg": "ResNet-18, 224, from JPEG files with augmentation: ours against torchvision's reference and fastai",
    "loop_overhead": "what `striate train` costs over the bare forward-backward-step",
    "accuracy": "the same ResNet, same epochs: `striate train` against a plain fp32 loop, several seeds",
    "mnist": "`striate train mnist-idx` as a whole process: accuracy and wall time",
    "predict": "model.predict on a folder of JPEG files against a plain torchvision loop",
    "startup": "`striate --help` as a whole process",
    "transfer": "SqueezeNet's ImageNet weights on few ants and bees: features, finetune, from scratch; curves",
    "score": "photo scores on an imitation of AVA: real photographs made worse by degrees",
    "landmarks": "68 points of faces, on people never seen, against the mean face",
    "depth": "plain-20 and -56 against residual-20 and -56 on cifar10-jpg: training error, curves",
    "emotion": "mini-Xception on faces of fer2013: trained here, and its authors' Keras weights converted",
    "families": "every family against torchvision or timm, same layout and weights: forward and training",
    "exports": "every network through torch.export, ONNX Runtime and torch.compile(fullgraph=True)",
    "bccd": "blood cells from scratch: striate train against ultralytics for the same wall time",
    "shapes": "every detector on the built-in shapes, by striate train: AP, AP50, seconds",
    "detection_ladder": "seconds a picture: R-CNN, Fast R-CNN, Faster R-CNN, YOLO",
    "detection_latency": "from a file to drawn boxes, against torchvision's own way",
    "detection_evaluation": "COCO's numbers of 5,000 pictures' detections: ours against pycocotools",
    "detection_training": "Faster R-CNN with a feature pyramid: our training step against torchvision's reference loop",
    "sliding": "a classifier on every window of a picture: crops against one fully convolutional pass",
    "style": "style transfer at 512 px: by changing pixels with SqueezeNet, and by a trained network",
    "kills": "training killed at random moments and resumed: the weights must be bit-identical",
}
