"""model4 in PyTorch on the GPU, as its users run it today: CUDA graphs; fp32 without TF32, fp16 channels_last.

python3 -m benchmarks.gpu.pytorch --weights model4.pth --output pytorch.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, Dict, List

from samples import model4


def captured(model: Any, image: Any) -> Any:
    """The forward pass as one CUDA graph."""
    import torch

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(3):
            model(image)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        model(image)
    return graph


def median_milliseconds(graph: Any, runs: int = 100) -> float:
    import torch

    times: List[float] = []
    for _ in range(runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[runs // 5 :])


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    model = model4.build()
    model.load_state_dict(torch.load(options.weights, weights_only=True))
    result: Dict[str, Any] = {"torch": torch.__version__, "device": torch.cuda.get_device_name()}
    for word in ("fp32", "fp16"):
        model = model.eval().cuda()
        if word == "fp16":
            model = model.half().to(memory_format=torch.channels_last)
        for batch in (1, 8, 32, 128):
            image = torch.randn(batch, 3, 256, 256, device="cuda", dtype=next(model.parameters()).dtype)
            if word == "fp16":
                image = image.to(memory_format=torch.channels_last)
            result[f"{word}@{batch}"] = median_milliseconds(captured(model, image))
            print(word, batch, result[f"{word}@{batch}"], flush=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
