"""A scikit-learn model in BentoML's service, with typed arguments."""

import bentoml
import joblib
import os
from pydantic import BaseModel


class Row(BaseModel):
    f1: float
    f2: float
    f3: float


class Prediction(BaseModel):
    prediction: str
    probabilities: dict[str, float]


@bentoml.service(workers=int(os.environ["WORKERS"]), logging={"access": {"enabled": False}})
class Table:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])
        self.classes = self.model.classes_.tolist()

    @bentoml.api
    def predict(self, f1: float, f2: float, f3: float) -> Prediction:
        return self.answer([[f1, f2, f3]])[0]

    @bentoml.api
    def predict_many(self, rows: list[Row]) -> list[Prediction]:
        return self.answer([[row.f1, row.f2, row.f3] for row in rows])

    def answer(self, rows: list[list[float]]) -> list[Prediction]:
        scores = self.model.predict_proba(rows)
        return [
            Prediction(prediction=self.classes[best], probabilities=dict(zip(self.classes, row, strict=True)))
            for best, row in zip(scores.argmax(1).tolist(), scores.tolist(), strict=True)
        ]
