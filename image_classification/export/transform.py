"""Read how pictures are prepared from the object that does it, of torchvision, timm or Hugging Face.

It looks at names and attributes alone, so none of these packages must be there.
"""

from collections.abc import Mapping, Sequence
from export.task import Refusal
from typing import Any

NOTHING = {"ToTensor", "MaybeToTensor", "PILToTensor", "MaybePILToTensor", "ToImage", "ToImageTensor", "ToPureTensor"}
PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Image.Resampling
ADVICE = "say it by the options, or give `predictions` instead of `transform`"


def read(transform: Any) -> dict[str, Any]:
    """Return options of export(): size, resize, fit, crop and range. Raises Refusal for what it cannot read."""
    if isinstance(transform, Mapping):
        return of_timm(transform)
    if hasattr(transform, "transforms"):
        return of_steps(list(transform.transforms))
    if hasattr(transform, "image_mean"):
        return of_processor(transform)
    raise Refusal(f"`transform` is a {type(transform).__name__}, which is not read: {ADVICE}")


def method(said: Any) -> str:
    """Return the way to resize by the name in torchvision, in Pillow or in timm."""
    name = PILLOW.get(said, "") if isinstance(said, int) else str(getattr(said, "value", said)).lower()
    if name not in PILLOW.values():
        raise Refusal(f"`transform` resizes by {said}, which is not known: {ADVICE}")
    return f"pil-{name}"


def sides(size: Any) -> tuple[int, ...]:
    return tuple(int(side) for side in size) if isinstance(size, Sequence) else (int(size),)


def ranged(scale: float, mean: Any, deviation: Any) -> str:
    """Return the range after pixels were multiplied by a scale, and then normalized."""
    if mean is None:
        return f"mean 0 scale {1 / scale:.10g}"
    means, deviations = ([each] if isinstance(each, int | float) else list(each) for each in (mean, deviation))
    texts = [",".join(f"{float(value) / scale:.10g}" for value in values) for values in (means, deviations)]
    return f"mean {texts[0]} scale {texts[1]}"


def framed(resize: tuple[int, ...], crop: tuple[int, ...]) -> dict[str, Any]:
    """Return size, fit and crop of a resize, to the short side or to (height, width), and of what is then cut out."""
    if not crop and len(resize) == 1:
        raise Refusal(f"`transform` resizes the short side to {resize[0]} and cuts nothing: {ADVICE}")
    if not crop:
        return {"size": resize, "fit": "stretch"}
    height, width = crop * 2 if len(crop) == 1 else crop
    if not resize:
        return {"size": (height, width), "resize": "none", "fit": "crop"}
    if len(resize) == 2 and resize == (height, width):
        return {"size": resize, "fit": "stretch"}
    if len(resize) == 2 and resize[0] * width != resize[1] * height:
        raise Refusal(f"`transform` cuts {height}x{width} out of {resize[0]}x{resize[1]}: {ADVICE}")
    share = min(height, width) / min(resize)
    if share > 1:
        raise Refusal(f"`transform` cuts {height}x{width} out of less: {ADVICE}")
    return {"size": (height, width), "fit": "stretch" if len(resize) == 2 else "crop", "crop": share}


def of_steps(steps: list[Any]) -> dict[str, Any]:
    """Read torchvision's Compose, of version 1 or 2, or timm's."""
    found: dict[str, Any] = {"resize": "none"}
    resize: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()
    scale, mean, deviation = 1.0, None, None
    for step in steps:
        name = type(step).__name__
        if name == "Resize" and getattr(step, "max_size", None) is None and not crop:
            resize, found["resize"] = sides(step.size), method(step.interpolation)
        elif name == "CenterCrop":
            crop = sides(step.size)
        elif name == "Normalize":
            mean, deviation = step.mean, step.std
        elif name in NOTHING or name in ("ConvertImageDtype", "ToDtype"):
            if name in ("ToTensor", "MaybeToTensor", "ConvertImageDtype") or getattr(step, "scale", False):
                scale = 1 / 255
        elif name != "Grayscale":
            advice = "give the one that you use to predict" if name.startswith("Random") else ADVICE
            raise Refusal(f"`transform` has the step {name}, which is not read: {advice}")
    return found | framed(resize, crop) | {"range": ranged(scale, mean, deviation)}


def of_timm(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read what timm.data.resolve_data_config returns."""
    try:
        _, height, width = config["input_size"]
        share, kind = config["crop_pct"], config.get("crop_mode", "center")
        whole = tuple(int(side / share) for side in (height, width))  # as timm.data.create_transform
        if kind not in ("center", "squash") or (height != width and kind == "center"):
            raise Refusal(f"`transform` has the crop_mode {kind} for {height}x{width}, which is not read: {ADVICE}")
        frame = framed(whole if kind == "squash" else whole[:1], (height, width))
        scaling = ranged(1 / 255, config["mean"], config["std"])
        return {"resize": method(config["interpolation"])} | frame | {"range": scaling}
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(f"`transform` is a dict without {error}, as timm.data.resolve_data_config has it") from error


def of_processor(processor: Any) -> dict[str, Any]:
    """Read an image processor of Hugging Face."""
    name = type(processor).__name__.removesuffix("Fast").removesuffix("Pil")

    def said(field: str) -> Any:
        return getattr(processor, field, None)

    def edges(size: Any) -> tuple[int, ...]:
        size = dict(size)
        return (size["shortest_edge"],) if size.get("shortest_edge") else (size["height"], size["width"])

    if said("do_pad") or said("rescale_offset") or not said("do_resize"):
        raise Refusal(f"`transform` is a {name} with settings that are not read: {ADVICE}")
    resize, crop = edges(said("size")), edges(said("crop_size")) if said("do_center_crop") else ()
    if said("crop_pct"):  # ConvNeXt: a small picture is cut, a large one is stretched
        if name != "ConvNextImageProcessor" or len(resize) != 1:
            raise Refusal(f"`transform` is a {name} with settings that are not read: {ADVICE}")
        side = resize[0]
        resize, crop = ((side, side), ()) if side >= 384 else ((int(side / said("crop_pct")),), (side, side))
    scale = said("rescale_factor") if said("do_rescale") else 1.0
    mean, deviation = (said("image_mean"), said("image_std")) if said("do_normalize") else (None, None)
    return {"resize": method(int(said("resample")))} | framed(resize, crop) | {"range": ranged(scale, mean, deviation)}


def of_learner(data: Any) -> dict[str, Any]:
    """Read what fastai's DataLoaders do to a picture for validation; what it cannot read is left open."""
    found: dict[str, Any] = {}
    for step in getattr(getattr(data, "after_item", None), "fs", []):
        if type(step).__name__ == "Resize":
            width, height = step.size  # fastai has the width first
            fit = {"crop": "crop", "squish": "stretch"}.get(str(step.method))
            found |= {"size": (height, width), "resize": "pil-bilinear"} | ({"fit": fit} if fit else {})
    scaling = ranged(1 / 255, None, None)
    for step in getattr(getattr(data, "after_batch", None), "fs", []):
        if type(step).__name__ == "Normalize":
            scaling = ranged(1 / 255, step.mean.ravel().tolist(), step.std.ravel().tolist())
    return found | {"range": scaling}
