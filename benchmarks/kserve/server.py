"""What KServe's sklearnserver does, which is not on PyPI, with KServe's SDK, which is: the V1 protocol, `instances`."""

import argparse
import joblib
import os
from kserve import Model, ModelServer, model_server
from typing import Any


class Table(Model):
    def load(self) -> bool:
        self.model = joblib.load(os.environ["MODEL"])
        self.classes = self.model.classes_.tolist()
        self.ready = True
        return self.ready

    def predict(self, payload: dict[str, Any], headers: Any = None, response_headers: Any = None) -> dict[str, Any]:
        scores = self.model.predict_proba(payload["instances"])
        return {
            "predictions": [
                {"prediction": self.classes[best], "probabilities": dict(zip(self.classes, row, strict=True))}
                for best, row in zip(scores.argmax(1).tolist(), scores.tolist(), strict=True)
            ]
        }


if __name__ == "__main__":
    args, _ = argparse.ArgumentParser(parents=[model_server.parser]).parse_known_args()
    model = Table("table")
    model.load()
    ModelServer(workers=args.workers).start([model])
