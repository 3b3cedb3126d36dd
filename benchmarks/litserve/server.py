"""A scikit-learn model in LitServe's LitAPI."""

import joblib
import litserve
import os
import sys
from typing import Any


class Table(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = joblib.load(os.environ["MODEL"])
        self.classes = self.model.classes_.tolist()

    def decode_request(self, request: dict[str, float]) -> list[list[float]]:
        return [[request["f1"], request["f2"], request["f3"]]]

    def predict(self, x: list[list[float]]) -> Any:
        return self.model.predict_proba(x)[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        best = self.classes[output.argmax()]
        return {"prediction": best, "probabilities": dict(zip(self.classes, output.tolist(), strict=True))}


if __name__ == "__main__":
    server = litserve.LitServer(Table(), accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(port=int(sys.argv[1]), log_level="warning", access_log=False, generate_client_file=False)
