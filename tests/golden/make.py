"""Make the golden tensors of tiny BA-Nets: ``python tests/golden/make.py``.

Weights and images are closed formulas, so that no change of a random generator matters. Make them anew only when the
network is meant to compute something else, and say so in the change log.
"""

from __future__ import annotations

from pathlib import Path

import torch

from banet_monai.networks import BANet

VARIANTS = {
    "light_2d": ((2, 3, 1), {"encoder": "mobilenet_v2", "separable": True}, (2, 3, 33, 47)),
    "paper_2d": ((2, 1, 2), {"encoder": "resnet18", "output_stride": 8, "edge_channels": 1}, (2, 1, 40, 33)),
    "volume_3d": ((3, 1, 1), {"encoder": "resnet18", "attention": "forward"}, (2, 1, 33, 32, 35)),
}
STEP = 4  # only every fourth pixel of each axis is kept


def outputs(variant: str) -> dict[str, torch.Tensor]:
    """Sampled outputs of a variant: the training dictionary made flat, then the logits in evaluation."""
    arguments, options, shape = VARIANTS[variant]
    network = BANet(*arguments, **{"output_stride": 16, "width": 8, "aspp_channels": 8, **options}).double()
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 1.7 + index)
            if parameter.ndim > 1:  # a kernel: about the variance that keeps the signal's
                parameter.copy_((wave * 2 / parameter[0].numel() ** 0.5).view_as(parameter))
            else:  # scale or shift of a norm, or a bias
                parameter.copy_(0.5 + 0.25 * wave)
        pixels = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
        x = torch.sin(pixels * 0.37).add(torch.cos(pixels * pixels * 1e-3)).view(shape)
        training = network.train()(x)
        for module in network.modules():
            if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
                module.momentum = 1.0
        network(x)  # statistics for evaluation
        tensors = {"mask": training["mask"], "logits": network.eval()(x)}
        for kind in ("stage_masks", "stage_edges"):
            tensors |= {f"{kind}_{stage}": tensor for stage, tensor in enumerate(training[kind], start=1)}

    samples = (slice(None), slice(None), *(slice(None, None, STEP) for _ in shape[2:]))
    return {name: tensor[samples].float().contiguous() for name, tensor in tensors.items()}


if __name__ == "__main__":
    for name in VARIANTS:
        torch.save(outputs(name), Path(__file__).with_name(f"{name}.pt"))
