"""A scikit-learn model in FastAPI: a `def`, as its documentation says for what does not await."""

import joblib
import os
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.environ["MODEL"])
classes = model.classes_.tolist()
app = FastAPI()


class Row(BaseModel):
    f1: float
    f2: float
    f3: float


class Prediction(BaseModel):
    prediction: str
    probabilities: dict[str, float]


@app.post("/predict")
def predict(row: Row) -> Prediction:
    return answer([row])[0]


@app.post("/predict_many")
def predict_many(rows: list[Row]) -> list[Prediction]:
    return answer(rows)


def answer(rows: list[Row]) -> list[Prediction]:
    scores = model.predict_proba([[row.f1, row.f2, row.f3] for row in rows])
    return [
        Prediction(prediction=classes[best], probabilities=dict(zip(classes, row, strict=True)))
        for best, row in zip(scores.argmax(1).tolist(), scores.tolist(), strict=True)
    ]
