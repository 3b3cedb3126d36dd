"""Make the models that all servers get: models.py FOLDER simple_ml|image_classification.

simple_ml: iris.joblib and forest.joblib, fitted by scikit-learn on the data of simple_ml/train.py; and frame.joblib.
image_classification: picture.keras and picture.tflite, the network of image_classification/train.py. It learns only the
ten samples, for a few seconds: that is enough to compare answers, and the speed does not depend on what it has learned.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def table(folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "simple_ml"))
    import frame
    import joblib
    from sklearn.ensemble import RandomForestClassifier
    from train import X, model, y

    for name, estimator in {"iris": model, "forest": RandomForestClassifier(random_state=0)}.items():
        joblib.dump(estimator.fit(X.to_numpy(), y), folder / f"{name}.joblib")
    joblib.dump(frame.model.fit(frame.X, frame.y), folder / "frame.joblib")


def picture(folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "image_classification"))
    import keras
    import numpy as np
    import train
    from export import export
    from PIL import Image
    from preprocess import digit

    keras.utils.set_random_seed(1)
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    samples = ROOT / "image_classification" / "samples"
    images = np.stack([digit(Image.open(samples / f"{name}.png")) for name in names])
    network = train.build()
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(np.repeat(images, 4, 0), np.repeat(range(10), 4), epochs=60, batch_size=40, verbose=0)
    network.save(folder / "picture.keras")
    export(network, train.LABELS, folder / "picture.tflite", preprocess="digit", range="0..1")


if __name__ == "__main__":
    {"simple_ml": table, "image_classification": picture}[sys.argv[2]](Path(sys.argv[1]))
