"""A network of keras.applications in FastAPI: load_img, preprocess_input and predict, as its documentation shows."""

import io
import keras
import os
from fastapi import FastAPI, UploadFile
from pathlib import Path
from pydantic import BaseModel

model = keras.models.load_model(os.environ["MODEL"])
preprocess_input = getattr(keras.applications, Path(os.environ["MODEL"]).stem).preprocess_input
app = FastAPI()


class Prediction(BaseModel):
    prediction: int
    probabilities: dict[str, float]


@app.post("/predict")
def predict(file: UploadFile) -> Prediction:
    image = keras.utils.load_img(io.BytesIO(file.file.read()), target_size=(224, 224))
    x = preprocess_input(keras.utils.img_to_array(image)[None])
    scores = model.predict(x, verbose=0)[0]
    return Prediction(prediction=scores.argmax(), probabilities={str(i): p for i, p in enumerate(scores.tolist())})
