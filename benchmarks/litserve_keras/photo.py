"""A network of keras.applications in LitServe's LitAPI."""

import io
import keras
import litserve
import os
import sys
from fastapi import Request
from pathlib import Path
from typing import Any


class Photo(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = keras.models.load_model(os.environ["MODEL"])
        self.preprocess_input = getattr(keras.applications, Path(os.environ["MODEL"]).stem).preprocess_input

    def decode_request(self, request: Request) -> Any:
        image = keras.utils.load_img(io.BytesIO(request["file"].file.read()), target_size=(224, 224))
        return self.preprocess_input(keras.utils.img_to_array(image)[None])

    def predict(self, x: Any) -> Any:
        return self.model.predict(x, verbose=0)[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"prediction": int(output.argmax()), "probabilities": {str(i): p for i, p in enumerate(output.tolist())}}


if __name__ == "__main__":
    server = litserve.LitServer(Photo(), accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(port=int(sys.argv[1]), log_level="warning", access_log=False, generate_client_file=False)
