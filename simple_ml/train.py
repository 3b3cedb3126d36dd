"""Train a model and write it to a file. To serve your own model, edit this file; nothing else needs to change."""

import pandas as pd
from export import export
from pathlib import Path
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Your data: a DataFrame X with a named column for each feature (numbers, yes/no, text or dates; empty cells are fine if
# the model accepts them), and a Series y with what the model should predict. For example, with a file beside train.py:
#     data = pd.read_csv("houses.csv")
#     X, y = data.drop(columns="price"), data["price"]
iris = load_iris(as_frame=True)
X = iris.data.iloc[:, :3].set_axis(["f1", "f2", "f3"], axis="columns")
y = pd.Series(iris.target_names[iris.target], name="species")

# Your model: a Pipeline, so that the steps that prepare the data are served along with the model. For one that is
# trained already, the last line is: export(joblib.load("model.joblib"), pd.read_csv("houses.csv"))
model = make_pipeline(StandardScaler(), LogisticRegression())

if __name__ == "__main__":
    scores = cross_val_score(model, X, y, cv=5)  # each fifth of the data is scored by a model that has not seen it
    print(f"cross-validated score: {scores.mean():.3f} ± {scores.std():.3f}")
    export(
        model.fit(X, y),
        X,
        Path(__file__).with_name("model.onnx"),
        title="Iris species",
        description="Which of three species an iris belongs to, from three measurements.",
        features={"f1": "sepal length in cm", "f2": "sepal width in cm", "f3": "petal length in cm"},
        score=round(scores.mean(), 3),
    )
