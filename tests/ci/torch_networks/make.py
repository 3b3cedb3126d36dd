"""Train small networks of PyTorch as people have them, export each, and compare: `make.py FOLDER`.

It needs torch, torchvision, timm, transformers and fastai beside image_classification/requirements-torch.txt. FOLDER
then holds, for each network, a .onnx file without our card, and answers.json: how it is exported, and what the
notebook's own code says of each picture of pictures.py. The files beside this script were made by it, with the
versions in answers.json; the other tests export and serve them without torch.
"""

import json
import numpy as np
import sys
import tempfile
import torch
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from pictures import LABELS, pictures
from PIL import Image
from torch import nn
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).parents[3] / "image_classification"))
from export import export, pytorch
from export import transform as transforms_of
from preprocess import way
from runtime import Network
from runtime.decode import decoded

FOLDER = Path(sys.argv[1])
PACKAGES = ("torch", "torchvision", "timm", "transformers", "fastai", "onnx", "onnxscript", "onnxruntime", "pillow")
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
Load = Callable[[Path], torch.Tensor]
torch.set_num_threads(1)


def trained(network: nn.Module, load: Load, loss: nn.Module | None = None, steps: int = 300) -> nn.Module:
    """Train a network on the pictures until its answers differ."""
    torch.manual_seed(0)
    files = sorted(FOLDER.glob("*.png"))
    x = torch.stack([load(path) for path in files])
    y = torch.tensor([LABELS.index(path.stem.split("-")[0]) for path in files])
    several = isinstance(loss, nn.BCEWithLogitsLoss)
    wanted = (
        nn.functional.one_hot(torch.stack([y, (y + 1) % len(LABELS)]), len(LABELS)).amax(0).float() if several else y
    )
    loss, optimizer = loss or nn.CrossEntropyLoss(), torch.optim.Adam(network.parameters(), 3e-3)
    network.train()
    for step in range(steps):
        optimizer.zero_grad()
        values = network(x)
        value = loss(getattr(values, "logits", values), wanted)
        if step > 60 and value.item() < 0.25:  # sure of some, in doubt about others
            break
        value.backward()
        optimizer.step()
    return network.eval()


def cnn(channels: int = 3) -> nn.Sequential:
    steps: list[nn.Module] = []
    for before, after in [(channels, 16), (16, 24), (24, 32)]:
        steps += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*steps, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, len(LABELS)))


def rgb(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def resnet() -> dict:
    """A module and torchvision's Compose, as in most notebooks."""
    import timm

    steps = [transforms.Resize(73), transforms.CenterCrop(64), transforms.ToTensor(), transforms.Normalize(*IMAGENET)]
    compose = transforms.Compose(steps)
    sizes = {"layers": (1, 1, 1, 1), "channels": (8, 12, 16, 16), "stem_width": 8}
    network = timm.models.resnet.ResNet(timm.models.resnet.BasicBlock, num_classes=len(LABELS), **sizes)
    return {"network": network, "transform": compose, "load": lambda path: compose(rgb(path)), "task": "logits"}


def timm_network() -> dict:
    """A network of timm, and its configuration."""
    import timm

    network = timm.models.convnext.ConvNeXt(num_classes=len(LABELS), depths=(1, 1, 1, 1), dims=(8, 8, 12, 16))
    config = timm.data.resolve_data_config({"input_size": (3, 64, 64), "crop_pct": 0.9}, model=network)
    compose = timm.data.create_transform(**config)
    return {"network": network, "transform": config, "load": lambda path: compose(rgb(path)), "task": "logits"}


def vit() -> dict:
    """A ViT of Hugging Face, and its image processor."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = ViTConfig(**sizes, image_size=64, patch_size=16, num_labels=len(LABELS))
    processor = ViTImageProcessor(size={"height": 64, "width": 64})

    def load(path: Path) -> torch.Tensor:
        return torch.as_tensor(np.asarray(processor(rgb(path), return_tensors="np")["pixel_values"][0]))

    return {"network": ViTForImageClassification(config), "transform": processor, "load": load, "task": "logits"}


def torchscript() -> dict:
    """A file of TorchScript, with several labels that may be right."""
    compose = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    options = {"size": 64, "resize": "pil-bilinear", "range": "0..1", "task": "several-logits"}
    network, loss = cnn(), nn.BCEWithLogitsLoss()
    return {"network": network, "loss": loss, "load": lambda path: compose(rgb(path)), "file": "network.pt"} | options


def state() -> dict:
    """A file of weights, and the class that they are for."""
    compose = transforms.Compose(
        [transforms.Resize((64, 64)), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    )
    options = {"size": 64, "resize": "pil-bilinear", "range": "-1..1", "task": "logits"}
    return {"network": cnn(1), "load": lambda path: compose(rgb(path).convert("L")), "file": "weights.pt"} | options


def fastai() -> dict:
    """A learner, as learn.export() writes it: a pickle."""
    from fastai.vision import all as vision

    folder = FOLDER / "flowers"
    for path in FOLDER.glob("*.png"):
        (folder / path.stem.split("-")[0]).mkdir(parents=True, exist_ok=True)
        rgb(path).save(folder / path.stem.split("-")[0] / path.name)
    files = vision.get_image_files(folder)
    normalize = vision.Normalize.from_stats(*IMAGENET)
    loaders = vision.ImageDataLoaders.from_path_func(
        folder, files, folder_of, item_tfms=vision.Resize(64), batch_tfms=normalize, bs=8, num_workers=0, seed=1
    )
    learner = vision.Learner(loaders, cnn(), loss_func=vision.CrossEntropyLossFlat(), path=FOLDER)
    with learner.no_bar(), learner.no_logging():
        learner.fit(6, 3e-3)
    return {"learner": learner, "file": "export.pkl", "trust": True, "labels": [*loaders.vocab]}


def folder_of(path: Path) -> str:
    return Path(path).parent.name


KINDS = {each.__name__: each for each in (resnet, timm_network, vit, torchscript, state, fastai)}
OPTIONS = ("size", "resize", "range", "task", "transform", "trust")


def made(name: str) -> None:
    """Train and export one, compare the file's answers with the notebook's, and write what the other tests need."""
    torch.manual_seed(1)
    case = KINDS[name]()
    options = {option: case[option] for option in OPTIONS if option in case}
    files = sorted(FOLDER.glob("*.png"))
    thing = case.get("learner") or trained(case["network"], case["load"], case.get("loss"))
    with torch.no_grad():
        if name == "fastai":
            with thing.no_bar():
                own = [thing.predict(path)[2].tolist() for path in files]
        else:
            values = [thing(case["load"](path)[None]) for path in files]
            values = [getattr(value, "logits", value)[0] for value in values]
            own = [
                (value.sigmoid() if case["task"] == "several-logits" else value.softmax(-1)).tolist()
                for value in values
            ]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / case.get("file", ""), Path(folder) / "model.onnx"
        exported: object = thing
        if name == "torchscript":
            torch.jit.trace(thing, torch.rand(1, 3, 64, 64)).save(source)
            exported = source
        elif name == "state":
            torch.save(thing.state_dict(), source)
            exported = cnn(1)
            exported.load_state_dict(torch.load(source, weights_only=True))
        elif name == "fastai":
            thing.export(source)
            exported = source
        export(exported, case.get("labels", LABELS if name != "fastai" else []), target, **options)
        network = Network(target)
        preparation = way(network.card)
        got = []
        for path in files:
            with path.open("rb") as file, decoded(file, None, 64) as image:
                got.append(network.probabilities(preparation.prepare(image, network.card)[0]))
    difference = float(np.abs(np.array(got) - own).max())
    print(f"{name}: {len(files)} files agree to {difference:.2g}, {network.card.way}", flush=True)
    assert difference < 0.01
    assert np.ptp(np.array(own), axis=0).max() > 0.3, "its answers hardly differ"
    plain, _ = pytorch.opened(exported if name == "state" else thing, None, (64, 64))
    (FOLDER / f"{name}.onnx").write_bytes(plain.convert([], False))
    said = transforms_of.read(options["transform"]) if "transform" in options else {}
    if name == "fastai":
        said = dict(transforms_of.of_learner(thing.dls)) | {"task": "logits"}
    told = {option: value for option, value in options.items() if option not in ("transform", "trust")} | said
    answers = {
        "labels": [*network.card.labels],
        "options": told,
        "answers": dict(zip([p.name for p in files], own, strict=True)),
    }
    ANSWERS[name] = answers


ANSWERS: dict[str, dict] = {}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    pictures(FOLDER)
    for each in sys.argv[2:] or KINDS:
        made(each)
    versions = {name: metadata.version(name) for name in PACKAGES}
    print(versions)
    (FOLDER / "answers.json").write_text(json.dumps({"versions": versions, "networks": ANSWERS}, indent=1) + "\n")
