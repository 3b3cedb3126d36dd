"""A scikit-learn model that was fitted on a DataFrame in FastAPI: a `def`, as its documentation says."""

import joblib
import os
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.environ["MODEL"])
classes = model.classes_.tolist()
app = FastAPI()


class Row(BaseModel):
    city: str | None
    job: str
    age: int
    income: float | None
    member: bool


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
    frame = pd.DataFrame([row.model_dump() for row in rows]).astype({"income": float})
    scores = model.predict_proba(frame)
    return [
        Prediction(prediction=classes[best], probabilities=dict(zip(classes, row, strict=True)))
        for best, row in zip(scores.argmax(1).tolist(), scores.tolist(), strict=True)
    ]
