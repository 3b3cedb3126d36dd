"""Make the model that all servers of a group get: models.py FOLDER GROUP.

iris, forest, frame: FOLDER/GROUP.joblib, fitted by scikit-learn. iris and forest learn the data of simple_ml/train.py.
picture: picture.keras and picture.tflite, the network of image_classification/train.py. It learns only the samples that
are sent, for a few seconds: that is enough to compare answers, and the speed does not depend on what it has learned.
mobilenet_v2, resnet50: those of keras.applications, with random weights and 1000 labels, as .keras and .tflite.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
APPLICATIONS: dict[str, tuple[str, dict[str, Any]]] = {  # its name in Keras, and what its preprocess_input() does
    "mobilenet_v2": ("MobileNetV2", {"range": "-1..1"}),
    "resnet50": ("ResNet50", {"range": "mean 123.68,116.779,103.939 scale 1", "bgr": True}),
}
GAIN = 10  # by which the last layer's weights are multiplied


def table(folder: Path, group: str) -> None:
    sys.path.insert(0, str(ROOT / "simple_ml"))
    import frame
    import joblib
    from sklearn.ensemble import RandomForestClassifier
    from train import X, model, y

    if group == "frame":
        fitted = frame.model.fit(frame.X, frame.y)
    else:
        fitted = {"iris": model, "forest": RandomForestClassifier(random_state=0)}[group].fit(X.to_numpy(), y)
    joblib.dump(fitted, folder / f"{group}.joblib")


def picture(folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "image_classification"))
    import keras
    import numpy as np
    import train
    from digit.parts import digit
    from export import export
    from PIL import Image

    keras.utils.set_random_seed(1)
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    samples = ROOT / "image_classification" / "samples"
    files = [*(f"{name}.png" for name in names), "three_photo.jpg"]
    images = np.stack([digit(Image.open(samples / file)) for file in files])
    network = train.build()
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(np.repeat(images, 4, 0), np.repeat([*range(10), 3], 4), epochs=60, batch_size=44, verbose=0)
    network.save(folder / "picture.keras")
    export(network, range(11), folder / "picture.tflite", preprocess="digit", range="0..1", quantize=True)


def application(folder: Path, group: str) -> None:
    sys.path.insert(0, str(ROOT / "image_classification"))
    import keras
    import numpy as np
    from export import export, random_pictures

    keras.utils.set_random_seed(1)
    module, (name, options) = getattr(keras.applications, group), APPLICATIONS[group]
    network = getattr(module, name)(weights=None)
    # An untrained network answers the same to every picture. With the statistics of some pictures, and a last layer
    # that decides more sharply, a picture that is prepared in another way gets another answer.
    pictures = module.preprocess_input(np.stack(random_pictures([224, 224], 3)))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0
    network(pictures, training=True)
    weights, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([GAIN * weights, bias])
    network.save(folder / f"{group}.keras")
    export(network, range(1000), folder / f"{group}.tflite", resize="pil-nearest", **options)


if __name__ == "__main__":
    folder, group = Path(sys.argv[1]), sys.argv[2]
    if group == "picture":
        picture(folder)
    elif group in APPLICATIONS:
        application(folder, group)
    else:
        table(folder, group)
