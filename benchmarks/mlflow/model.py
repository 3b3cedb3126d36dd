"""A scikit-learn model for `mlflow models serve`: a PythonModel, "from code", so that the answer has our fields."""

import joblib
import mlflow
import pandas as pd
from typing import Any


class Table(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        self.model = joblib.load(context.artifacts["model"])
        self.classes = self.model.classes_.tolist()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[dict[str, Any]]:
        scores = self.model.predict_proba(model_input.to_numpy())
        return [
            {"prediction": self.classes[best], "probabilities": dict(zip(self.classes, row, strict=True))}
            for best, row in zip(scores.argmax(1).tolist(), scores.tolist(), strict=True)
        ]


mlflow.models.set_model(Table())
