"""A Keras network in BentoML's service, which takes a picture as PIL.Image, after our preparation."""

import bentoml
import keras
import os
from digit.parts import digit
from PIL.Image import Image
from pydantic import BaseModel


class Prediction(BaseModel):
    prediction: int
    probabilities: dict[str, float]


@bentoml.service(workers=int(os.environ["WORKERS"]), logging={"access": {"enabled": False}})
class Picture:
    def __init__(self) -> None:
        self.model = keras.models.load_model(os.environ["MODEL"])

    @bentoml.api
    def predict(self, file: Image) -> Prediction:
        scores = self.model(digit(file)[None], training=False).numpy()[0]
        return Prediction(prediction=scores.argmax(), probabilities={str(i): p for i, p in enumerate(scores.tolist())})
