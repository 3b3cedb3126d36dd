"""Write model.py and a fitted scikit-learn model as an MLflow model: save.py MODEL FOLDER."""

import mlflow
import pandas as pd
import sys
from mlflow.models import infer_signature
from pathlib import Path

mlflow.pyfunc.save_model(
    sys.argv[2],
    python_model=str(Path(__file__).with_name("model.py")),
    artifacts={"model": sys.argv[1]},
    signature=infer_signature(pd.DataFrame({"f1": [4.0], "f2": [5.0], "f3": [10.0]})),
    pip_requirements=["mlflow", "scikit-learn"],
)
