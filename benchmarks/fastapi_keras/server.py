"""A Keras network in FastAPI: `model(x)`, as Keras's documentation says for small inputs, after our preparation."""

import keras
import numpy as np
import os
from digit.parts import digit
from fastapi import FastAPI, UploadFile
from PIL import Image
from pydantic import BaseModel

model = keras.models.load_model(os.environ["MODEL"])
app = FastAPI()


class Prediction(BaseModel):
    prediction: int
    probabilities: dict[str, float]


@app.post("/predict")
def predict(file: UploadFile) -> Prediction:
    return answer([file])[0]


@app.post("/predict_many")
def predict_many(file: list[UploadFile]) -> list[Prediction]:
    return answer(file)


def answer(files: list[UploadFile]) -> list[Prediction]:
    scores = model(np.stack([digit(Image.open(file.file)) for file in files]), training=False).numpy()
    return [
        Prediction(prediction=row.argmax(), probabilities={str(i): p for i, p in enumerate(row.tolist())})
        for row in scores
    ]
