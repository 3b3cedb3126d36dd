"""A Keras network in LitServe's LitAPI, after our preparation."""

import keras
import litserve
import os
import sys
from digit.parts import digit
from fastapi import Request
from PIL import Image
from typing import Any


class Picture(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = keras.models.load_model(os.environ["MODEL"])

    def decode_request(self, request: Request) -> Any:
        return digit(Image.open(request["file"].file))[None]

    def predict(self, x: Any) -> Any:
        return self.model(x, training=False).numpy()[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"prediction": int(output.argmax()), "probabilities": {str(i): p for i, p in enumerate(output.tolist())}}


if __name__ == "__main__":
    server = litserve.LitServer(Picture(), accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(port=int(sys.argv[1]), log_level="warning", access_log=False, generate_client_file=False)
