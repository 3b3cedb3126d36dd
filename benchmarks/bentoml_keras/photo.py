"""A network of keras.applications in BentoML's service, which puts the picture into a file."""

import bentoml
import keras
import os
from pathlib import Path
from pydantic import BaseModel


class Prediction(BaseModel):
    prediction: int
    probabilities: dict[str, float]


@bentoml.service(workers=int(os.environ["WORKERS"]), logging={"access": {"enabled": False}})
class Photo:
    def __init__(self) -> None:
        self.model = keras.models.load_model(os.environ["MODEL"])
        self.preprocess_input = getattr(keras.applications, Path(os.environ["MODEL"]).stem).preprocess_input

    @bentoml.api
    def predict(self, file: Path) -> Prediction:
        image = keras.utils.load_img(file, target_size=(224, 224))
        x = self.preprocess_input(keras.utils.img_to_array(image)[None])
        scores = self.model.predict(x, verbose=0)[0]
        return Prediction(prediction=scores.argmax(), probabilities={str(i): p for i, p in enumerate(scores.tolist())})
