"""Model 4: ResNet50 in PyTorch under torchvision's parameter names, for 256x256 images, saved as state_dicts.

    image ─ conv1 bn1 relu maxpool ─ layer1 .. layer4 ─ avgpool ─ fc
    block:  x ─┬─ conv1 bn1 relu ─ conv2 bn2 relu ─ conv3 bn3 ─┬─ add ─ relu
               └─ downsample.0 downsample.1, in the first only ┘
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List

import numpy as np

from samples import command, seeded

WEIGHTS = "resnet50.pth"
TRAINING = "resnet50_training.pth"
LOGITS_GAIN = 0.12
IMAGENET_MEAN = np.float32([0.485, 0.456, 0.406])
IMAGENET_DEVIATION = np.float32([0.229, 0.224, 0.225])


def build():
    """The network, float32 [n, 3, h, w] -> logits [n, 1000], in eval mode; weights as PyTorch initialises them."""
    import torch
    from torch import nn

    class ResNet50(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            self.layer1 = stage(64, width=64, blocks=3, stride=1)
            self.layer2 = stage(256, width=128, blocks=4, stride=2)
            self.layer3 = stage(512, width=256, blocks=6, stride=2)
            self.layer4 = stage(1024, width=512, blocks=3, stride=2)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(2048, 1000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            x = self.avgpool(x)
            return self.fc(x.view(x.size(0), -1))

    return ResNet50().eval()


def stage(channels: int, width: int, blocks: int, stride: int):
    """[n, channels, h, w] -> [n, 4 * width, h / stride, w / stride]; the first block changes size and channels."""
    from torch import nn

    first = bottleneck(channels, width, stride, downsample=True)
    return nn.Sequential(first, *(bottleneck(4 * width, width) for _ in range(1, blocks)))


def bottleneck(channels: int, width: int, stride: int = 1, downsample: bool = False):
    """One residual block; the 3x3 convolution carries the stride, as in torchvision (ResNet v1.5)."""
    import torch
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(4 * width)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = projection(channels, 4 * width, stride) if downsample else None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shortcut = x if self.downsample is None else self.downsample(x)
            x = self.relu(self.bn1(self.conv1(x)))
            x = self.relu(self.bn2(self.conv2(x)))
            x = self.bn3(self.conv3(x))
            x += shortcut
            return self.relu(x)

    return Bottleneck()


def projection(channels: int, filters: int, stride: int):
    """Shortcut [n, channels, h, w] -> [n, filters, h / stride, w / stride]."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(channels, filters, 1, stride=stride, bias=False), nn.BatchNorm2d(filters))


def write(directory: Path, seed: int = 0) -> List[Path]:
    """Write the bare state_dict (resnet50.pth) and a whole training checkpoint (resnet50_training.pth)."""
    import torch

    directory.mkdir(parents=True, exist_ok=True)
    model = build()
    set_random_weights(model, seed)
    optimizer = train_one_step(model, seed)
    torch.save(model.state_dict(), directory / WEIGHTS)
    torch.save(training_checkpoint(model, optimizer), directory / TRAINING)
    return [directory / WEIGHTS, directory / TRAINING]


def set_random_weights(model, seed: int) -> None:
    """torchvision declares every batch norm right behind its convolution, and modules() keeps that order."""
    from torch import nn

    rng = np.random.default_rng(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            convolution, gain = module, seeded.RESIDUAL_GAIN if name.endswith(".conv3") else 1.0
        elif isinstance(module, nn.BatchNorm2d):
            set_convolution_and_norm(rng, convolution, module, gain)
    set_array(model.fc.weight, seeded.kernel(rng, model.fc.weight.shape, output_axis=0, gain=LOGITS_GAIN))
    set_array(model.fc.bias, seeded.bias(rng, model.fc.out_features))


def set_convolution_and_norm(rng: np.random.Generator, convolution, norm, gain: float) -> None:
    """Kernel [o, i, h, w] of the convolution, then the four arrays [o] of the batch norm behind it."""
    arrays = seeded.batch_norm(rng, norm.num_features)
    kernel = seeded.normalised_kernel(rng, convolution.weight.shape, arrays, output_axis=0, gain=gain)
    set_array(convolution.weight, kernel)
    for parameter, array in zip((norm.weight, norm.bias, norm.running_mean, norm.running_var), arrays):
        set_array(parameter, array)


def set_array(parameter, array: np.ndarray) -> None:
    """Copy an array of the same shape into a parameter or buffer."""
    import torch

    with torch.no_grad():
        parameter.copy_(torch.from_numpy(array))


def train_one_step(model, seed: int):
    """One step of SGD with frozen batch statistics, so that the optimizer has its real momentum buffers."""
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9, momentum=0.9, weight_decay=1e-4)
    logits = model(torch.from_numpy(random_image(seed)))
    torch.nn.functional.cross_entropy(logits, torch.tensor([3])).backward()
    optimizer.step()
    return optimizer


def training_checkpoint(model, optimizer) -> dict:
    """What a training script saves: DataParallel puts `module.` before every name."""
    return {
        "epoch": 90,
        "best_acc": 76.13,
        "state_dict": {f"module.{name}": tensor for name, tensor in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
    }


def run(directory: Path, image: np.ndarray) -> np.ndarray:
    """Logits [n, 1000] of float32 images [n, 3, h, w], from resnet50.pth."""
    import torch

    model = build()
    model.load_state_dict(torch.load(directory / WEIGHTS, map_location="cpu", weights_only=True))
    with torch.no_grad():
        return model(torch.from_numpy(image)).numpy()


def random_image(seed: int, batch: int = 1) -> np.ndarray:
    """float32 [n, 3, 256, 256], normalised with ImageNet's mean and deviation."""
    image = (seeded.image(seed, batch, 256, 256) - IMAGENET_MEAN) / IMAGENET_DEVIATION
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))


def main() -> None:
    """Write the checkpoint and run one random image."""
    command.main(sys.modules[__name__])


if __name__ == "__main__":
    main()
