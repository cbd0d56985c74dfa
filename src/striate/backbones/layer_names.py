"""What people call the layers of a network: as papers do (`conv4_2` of a VGG, `fire5` of a SqueezeNet), or by stage."""

from __future__ import annotations

from torch import nn

from striate.backbones.backbone import Backbone
from striate.backbones.squeezenet import Fire, SqueezeNet
from striate.backbones.vgg import VGG


def layer_names(backbone: Backbone) -> dict[str, str]:
    """Names that people use -> modules of the state dict, from the picture on. A convolution stands for the rectifier
    behind it: in the VGG paper's Caffe network that overwrites it."""
    modules = dict(backbone.named_modules())
    names = {stage: layers[-1] for stage, layers in backbone.stage_layers.items() if layers and layers[-1] in modules}
    if isinstance(backbone, VGG):
        block, number = 1, 0
        for index, layer in enumerate(backbone.features):
            if isinstance(layer, nn.ReLU):
                number += 1
                names[f"conv{block}_{number}"] = f"features.{index}"
            elif not isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.LocalResponseNorm):
                block, number = block + 1, 0
    if isinstance(backbone, SqueezeNet):
        fires = (index for index, layer in enumerate(backbone.features) if isinstance(layer, Fire))
        names |= {f"fire{number}": f"features.{index}" for number, index in enumerate(fires, start=2)}
    order = {name: place for place, name in enumerate(modules)}
    return dict(sorted(names.items(), key=lambda pair: order[pair[1]]))
