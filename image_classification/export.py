"""Write a trained Keras network to model.tflite, with everything that serving must know: its labels."""

import keras
import numpy as np
import tempfile
import tensorflow as tf
import zipfile
from ai_edge_litert.interpreter import Interpreter
from collections.abc import Sequence
from pathlib import Path


def export(network: keras.Model, labels: Sequence[str], path: str | Path = "model.tflite") -> None:
    """Write a network as a LiteRT file, with its weights as 8-bit integers.

    The network takes (n, height, width, channels) float32 and returns the probability of each label, (n, labels)
    float32. The labels, in the order of the outputs, are packed at the end of the file as labels.txt, as TensorFlow
    Lite Metadata does (https://ai.google.dev/edge/litert/models/metadata): the file is also a ZIP archive.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        network.export(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a") as archive:  # a ZipInfo has a fixed date, so the same network gives the same file
        archive.writestr(zipfile.ZipInfo("labels.txt"), "\n".join(labels) + "\n")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def predict(path: str | Path, images: np.ndarray) -> np.ndarray:
    """Return what the file predicts, image by image as in the service: (n, labels) float32.

    The images are (n, height, width, channels) float32.
    """
    interpreter = Interpreter(str(path), num_threads=1)
    run = interpreter.get_signature_runner()
    (name,) = run.get_input_details()
    return np.concatenate([next(iter(run(**{name: image[np.newaxis]}).values())) for image in images])
