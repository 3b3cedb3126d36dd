"""A model that ONNX does not have, on a frame with texts, nulls and a yes/no column: train.py of the group `frame`."""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

random = np.random.default_rng(0)
COUNT = 5000
X = pd.DataFrame(
    {
        "city": random.choice(np.array(["Berlin", "Rome", "Vienna", None]), COUNT),
        "job": random.choice(["baker", "nurse", "pilot", "teacher"], COUNT),
        "age": random.integers(18, 80, COUNT),
        "income": random.normal(30_000, 9_000, COUNT).round(2),
        "member": random.random(COUNT) < 0.5,
    }
)
X.loc[random.random(COUNT) < 0.1, "income"] = np.nan
y = np.where((X["age"] > 40) & (X["city"] != "Rome") | (X["income"] > 35_000), "yes", "no")
columns = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city", "job"]), remainder="passthrough"
)
model = make_pipeline(columns, HistGradientBoostingClassifier(random_state=0))

if __name__ == "__main__":  # in a copy of simple_ml
    from export import export

    export(model.fit(X, y), X)
