"""How tutorials serve a network: Flask, a plain resize, and `model.predict`."""

import keras
import numpy as np
import os
from flask import Flask, jsonify, request
from PIL import Image

app = Flask(__name__)
model = keras.models.load_model(os.environ["MODEL"])


@app.post("/predict")
def predict():
    image = Image.open(request.files["file"]).convert("L").resize((28, 28))
    x = np.asarray(image, np.float32).reshape(1, 28, 28, 1) / 255
    scores = model.predict(x, verbose=0)[0]
    return jsonify(
        prediction=int(scores.argmax()), probabilities={str(i): float(score) for i, score in enumerate(scores)}
    )
