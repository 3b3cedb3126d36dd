"""Notebooks as people write them: they prepare the data by hand, around the model.

Each function below is one of them: raw rows, what the notebook itself predicts for the last 20 of them, and how it is
exported, as simple_ml/README.md says. The rows are made up, in the form of well-known data.
"""

import numpy as np
import pandas as pd
import re
from collections.abc import Callable
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import LabelEncoder, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from typing import Any, NamedTuple
from xgboost import XGBClassifier

N, LAST = 320, 20
rng = np.random.default_rng(5)


class Notebook(NamedTuple):
    rows: pd.DataFrame  # as they come, without the target
    own: Any  # what the notebook predicts for the last rows
    model: Any
    more: dict[str, Any]  # arguments of export()
    pasted: Any = None  # the prepared X that people export at first


def passengers() -> tuple[pd.DataFrame, pd.Series]:
    """Rows in the form of the Titanic's."""
    X = pd.DataFrame(
        {
            "PassengerId": np.arange(1, N + 1),
            "Pclass": rng.integers(1, 4, N),
            "Name": [f"{rng.choice(['Doe', 'Roe'])}, {rng.choice(['Mr', 'Mrs', 'Miss', 'Dr'])}. {i}" for i in range(N)],
            "Sex": rng.choice(["male", "female"], N),
            "Age": np.where(rng.random(N) < 0.2, np.nan, rng.integers(1, 80, N)),
            "SibSp": rng.integers(0, 4, N),
            "Ticket": [f"A/{i}" for i in range(N)],
            "Fare": rng.gamma(2, 15, N).round(2),
            "Cabin": [None if i % 4 else f"C{i}" for i in range(N)],
            "Embarked": rng.choice(np.array(["S", "C", "Q", None], object), N, p=[0.6, 0.2, 0.18, 0.02]),
        }
    )
    odds = (X.Sex == "female") * 2.0 - (X.Pclass - 2) - X.Age.fillna(30) / 60 + rng.normal(0, 0.5, N)
    return X, pd.Series((odds > 0).astype(int), name="Survived")


def houses() -> tuple[pd.DataFrame, pd.Series]:
    X = pd.DataFrame(
        {
            "Id": np.arange(N),
            "LotArea": rng.integers(1500, 20000, N),
            "Street": rng.choice(["Pave", "Grvl"], N),
            "KitchenQual": rng.choice(["Ex", "Gd", "TA", "Fa"], N),
            "Garage": rng.choice(np.array(["Attchd", "Detchd", None], object), N),
            "LotFrontage": np.where(rng.random(N) < 0.2, np.nan, rng.integers(20, 120, N)),
            "YearBuilt": rng.integers(1900, 2010, N),
        }
    )
    quality = X.KitchenQual.map({"Ex": 3, "Gd": 2, "TA": 1, "Fa": 0})
    return X, (50_000 + X.LotArea * 5 + quality * 20_000 + (X.YearBuilt - 1900) * 600).astype(float)


def customers() -> tuple[pd.DataFrame, pd.Series]:
    """Rows in the form of the Telco churn data."""
    months = rng.integers(0, 72, N)
    X = pd.DataFrame(
        {
            "customerID": [f"{i:04}-ABC" for i in range(N)],
            "gender": rng.choice(["Male", "Female"], N),
            "SeniorCitizen": rng.integers(0, 2, N),
            "Partner": rng.choice(["Yes", "No"], N),
            "tenure": months,
            "Contract": rng.choice(["Month-to-month", "One year", "Two year"], N),
            "MonthlyCharges": rng.uniform(20, 110, N).round(2),
        }
    )
    X["TotalCharges"] = [" " if m == 0 else f"{m * c:.2f}" for m, c in zip(months, X.MonthlyCharges, strict=True)]
    churn = np.where((X.Contract == "Month-to-month") & (X.tenure < 30) ^ (rng.random(N) < 0.1), "Yes", "No")
    return X, pd.Series(churn, name="Churn")


def loans() -> tuple[pd.DataFrame, pd.Series]:
    X = pd.DataFrame(
        {
            "purpose": rng.choice(["car", "radio/tv", "education"], N),
            "housing": rng.choice(["own", "rent", "free"], N),
            "amount": rng.integers(250, 18000, N),
            "duration": rng.integers(4, 72, N),
        }
    )
    return X, pd.Series(np.where(X.amount / X.duration + rng.normal(0, 60, N) > 250, "bad", "good"))


def titanic_by_hand() -> Notebook:
    """fillna() with the mean and the mode, map(), get_dummies(), dropped columns."""
    rows, y = passengers()
    age, port = rows.Age.mean(), rows.Embarked.mode()[0]
    ports = ["C", "Q", "S"]

    def prepare(df: pd.DataFrame) -> pd.DataFrame:
        df.drop(columns=["PassengerId", "Name", "Ticket", "Cabin"], inplace=True)
        df["Age"] = df["Age"].fillna(age)
        df["Embarked"] = pd.Categorical(df["Embarked"].fillna(port), categories=ports)
        df["Sex"] = df["Sex"].map({"male": 0, "female": 1})
        return pd.get_dummies(df, columns=["Embarked"], drop_first=True)

    df = rows.drop(columns=["PassengerId", "Name", "Ticket", "Cabin"])
    df["Age"] = df["Age"].fillna(df["Age"].mean())
    df["Embarked"] = df["Embarked"].fillna(df["Embarked"].mode()[0])
    df["Sex"] = df["Sex"].map({"male": 0, "female": 1})
    df = pd.get_dummies(df, columns=["Embarked"], drop_first=True)
    model = RandomForestClassifier(20, random_state=0).fit(df[:-LAST], y[:-LAST])
    return Notebook(rows, model.predict(df[-LAST:]), model, {"prepare": prepare}, df)


def titanic_titles() -> Notebook:
    """A title out of the name, and a family out of two columns; classes are named."""
    rows, y = passengers()
    age = rows.groupby("Pclass").Age.median()

    def prepare(df: pd.DataFrame) -> pd.DataFrame:
        title = df["Name"].str.extract(r", (\w+)\.", expand=False).map({"Mr": 0, "Mrs": 1, "Miss": 2}).fillna(3)
        ages = df["Age"].fillna(df["Pclass"].map(age))
        return pd.DataFrame({"title": title, "age": ages, "alone": (df["SibSp"] == 0).astype(int), "fare": df["Fare"]})

    X = prepare(rows)
    model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X[:-LAST], y[:-LAST])
    own = np.array(["died", "survived"], object)[model.predict(X[-LAST:])]
    return Notebook(rows, own, model, {"prepare": prepare, "class_names": ["died", "survived"]}, X)


def house_prices() -> Notebook:
    """log1p() of the target, ordered qualities, get_dummies(), a mean of each street."""
    rows, price = houses()
    frontage = rows.groupby("Street").LotFrontage.mean()
    columns = pd.get_dummies(rows[["Street", "Garage"]]).columns

    def prepare(df: pd.DataFrame) -> pd.DataFrame:
        dummies = pd.get_dummies(df[["Street", "Garage"]]).reindex(columns=columns, fill_value=False)
        quality = df["KitchenQual"].map({"Ex": 4, "Gd": 3, "TA": 2, "Fa": 1})
        width = df["LotFrontage"].fillna(df["Street"].map(frontage))
        return dummies.assign(area=np.log1p(df["LotArea"]), quality=quality, width=width, built=df["YearBuilt"])

    X = prepare(rows)
    model = Ridge().fit(X[:-LAST], np.log1p(price[:-LAST]))
    return Notebook(rows, np.expm1(model.predict(X[-LAST:])), model, {"prepare": prepare, "inverse_func": np.expm1}, X)


def telco_churn() -> Notebook:
    """to_numeric() of blanks, LabelEncoder for each column, MinMaxScaler outside of the model, a LabelEncoder for y."""
    rows, churn = customers()
    X = rows.drop(columns="customerID")
    X["TotalCharges"] = pd.to_numeric(X["TotalCharges"], errors="coerce").fillna(0)
    encoders = {name: LabelEncoder().fit(X[name]) for name in ("gender", "Partner", "Contract")}
    for name, encoder in encoders.items():
        X[name] = encoder.transform(X[name])
    scaler, target = MinMaxScaler().fit(X), LabelEncoder().fit(churn)
    model = LogisticRegression().fit(scaler.transform(X)[:-LAST], target.transform(churn)[:-LAST])

    def prepare(df: pd.DataFrame) -> np.ndarray:
        df = df.drop(columns="customerID")
        df["TotalCharges"] = pd.to_numeric(df["TotalCharges"], errors="coerce").fillna(0)
        for name, encoder in encoders.items():
            df[name] = encoder.transform(df[name])
        return scaler.transform(df)

    own = target.inverse_transform(model.predict(scaler.transform(X)[-LAST:]))
    return Notebook(rows, own, model, {"prepare": prepare, "class_names": target.classes_}, X)


def credit_in_a_pipeline() -> Notebook:
    """The same as a pipeline would do it: XGBoost wants classes as numbers."""
    rows, risk = loans()
    encoder, target = OrdinalEncoder().fit(rows[["purpose", "housing"]]), LabelEncoder().fit(risk)

    def prepare(df: pd.DataFrame) -> np.ndarray:
        return np.c_[encoder.transform(df[["purpose", "housing"]]), df[["amount", "duration"]]]

    X = prepare(rows)
    model = XGBClassifier(n_estimators=20).fit(X[:-LAST], target.transform(risk)[:-LAST])
    own = target.inverse_transform(model.predict(X[-LAST:]))
    return Notebook(rows, own, model, {"prepare": prepare, "class_names": target.classes_}, pd.DataFrame(X))


def loans_as_a_function() -> Notebook:
    """One function does all, and says a text and a number of each row."""
    rows, risk = loans()
    known = {name: sorted(rows[name].unique()) for name in ("purpose", "housing")}
    X = pd.get_dummies(rows).astype(float)
    means, deviations = X.mean(), X.std()
    model = LogisticRegression().fit(((X - means) / deviations)[:-LAST], risk[:-LAST])

    def predict(df: pd.DataFrame) -> pd.DataFrame:
        df = df.assign(**{name: pd.Categorical(df[name], categories=values) for name, values in known.items()})
        Z = (pd.get_dummies(df)[means.index] - means) / deviations
        bad = model.predict_proba(Z)[:, 0].round(4)
        return pd.DataFrame({"risk": np.where(bad > 0.5, "bad", "good"), "bad": bad})

    Z = ((X - means) / deviations)[-LAST:]
    bad = model.predict_proba(Z)[:, 0].round(4)
    own = [{"risk": "bad" if share > 0.5 else "good", "bad": share} for share in bad.tolist()]
    return Notebook(rows, own, predict, {}, X)


def scaled_and_reduced() -> Notebook:
    """StandardScaler and PCA outside of the model, arrays between them."""
    rows, risk = loans()
    numbers = rows[["amount", "duration"]].assign(rate=rows.amount / rows.duration)
    scaler = StandardScaler().fit(numbers)
    pca = PCA(2).fit(scaler.transform(numbers))
    X = pca.transform(scaler.transform(numbers))
    model = KNeighborsClassifier(5).fit(X[:-LAST], risk[:-LAST])

    def prepare(df: pd.DataFrame) -> np.ndarray:
        return pca.transform(scaler.transform(df[["amount", "duration"]].assign(rate=df.amount / df.duration)))

    pasted = pd.DataFrame(X, columns=["PC1", "PC2"])
    return Notebook(rows, model.predict(X[-LAST:]), model, {"prepare": prepare}, pasted)


def bike_rentals() -> Notebook:
    """Parts of a date, a table of seasons, the square root of the target."""
    hours = pd.date_range("2011-01-01", periods=N, freq="7h")
    rows = pd.DataFrame({"datetime": hours.astype(str), "temp": rng.uniform(0, 35, N).round(1), "season": 1})
    rows["season"] = hours.month % 12 // 3 + 1
    count = (hours.hour * 9 + rows.temp * 4 + rng.normal(0, 3, N)).clip(lower=1)
    seasons = {1: "winter", 2: "spring", 3: "summer", 4: "autumn"}

    def prepare(df: pd.DataFrame) -> pd.DataFrame:
        when, season = pd.to_datetime(df["datetime"]), df["season"].map(seasons)
        parts = pd.DataFrame({"hour": when.dt.hour, "day": when.dt.dayofweek, "temp": df["temp"]})
        return parts.join(pd.DataFrame({name: (season == name).astype(int) for name in seasons.values()}))

    X = prepare(rows)
    model = GradientBoostingRegressor(n_estimators=30, random_state=0).fit(X[:-LAST], np.sqrt(count[:-LAST]))
    own = np.square(model.predict(X[-LAST:]))
    return Notebook(rows, own, model, {"prepare": prepare, "inverse_func": np.square}, X)


def spam() -> Notebook:
    """Texts cleaned with re, then a TfidfVectorizer outside of the model; the labels are mapped to 0 and 1."""
    words = ["WIN", "cash", "now!!", "hello", "meeting", "tomorrow", "free", "lunch", "http://x.y", "ok"]
    texts = [" ".join(rng.choice(words, 6)) for _ in range(N)]
    rows = pd.DataFrame({"Category": "", "Message": texts})
    spam = rows.Message.str.contains("cash|free").astype(int)

    def clean(text: str) -> str:
        return re.sub(r"[^a-z ]", " ", re.sub(r"http\S+", " ", text.lower()))

    vectorizer = TfidfVectorizer().fit(rows.Message.map(clean))
    X = vectorizer.transform(rows.Message.map(clean))
    model = LogisticRegression(C=20).fit(X[:-LAST], spam[:-LAST])
    own = np.array(["ham", "spam"], object)[model.predict(X[-LAST:])]

    def prepare(df: pd.DataFrame) -> Any:
        return vectorizer.transform(df["Message"].map(clean))

    return Notebook(rows, own, model, {"prepare": prepare, "class_names": ["ham", "spam"]})


def car_prices() -> Notebook:
    """A Pipeline does what it can, and the target is turned by TransformedTargetRegressor: it may become ONNX."""
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline

    rows = pd.DataFrame({"fuel": rng.choice(["gas", "diesel"], N), "km": rng.integers(0, 200_000, N)})
    rows["doors"] = rng.choice([2.0, 4.0], N)
    price = np.exp(10 - rows.km / 1e5 + (rows.fuel == "diesel") * 0.1)
    columns = make_column_transformer((OneHotEncoder(), ["fuel"]), (StandardScaler(), ["km", "doors"]))
    model = TransformedTargetRegressor(make_pipeline(columns, LinearRegression()), func=np.log1p, inverse_func=np.expm1)
    model.fit(rows[:-LAST], price[:-LAST])
    return Notebook(rows, model.predict(rows[-LAST:]), model, {})


def diamonds() -> Notebook:
    """Ordered categories of pandas, a volume out of three columns, rows that are not used for training."""
    cuts = ["Fair", "Good", "Very Good", "Premium", "Ideal"]
    rows = pd.DataFrame(
        {"carat": rng.uniform(0.2, 3, N).round(2), "cut": rng.choice(cuts, N), "x": rng.uniform(0, 9, N)}
    )
    rows["y"], rows["z"] = rows.x * 1.01, rows.x * 0.6
    price = rows.carat**1.7 * 4000 + rows.cut.map(cuts.index) * 90

    def prepare(df: pd.DataFrame) -> pd.DataFrame:
        cut = pd.Categorical(df["cut"], categories=cuts, ordered=True).codes
        return pd.DataFrame({"carat": df["carat"], "cut": cut, "volume": df["x"] * df["y"] * df["z"]})

    X = prepare(rows)
    used = (X.volume > 0) & (X.index < N - LAST)
    model = RandomForestRegressor(20, random_state=0).fit(X[used], price[used])
    return Notebook(rows, model.predict(X[-LAST:]), model, {"prepare": prepare}, X)


def incomes() -> Notebook:
    """'?' is missing, rare values are grouped, hours are cut into bins, a threshold of one's own decides."""
    rows = pd.DataFrame({"workclass": rng.choice(["Private", "State-gov", "?", "Never"], N, p=[0.6, 0.25, 0.1, 0.05])})
    rows["hours.per.week"], rows["age"] = rng.integers(1, 99, N), rng.integers(17, 90, N)
    income = (rows["hours.per.week"] * rows.age + rng.normal(0, 300, N) > 2600).astype(int)
    frequent = rows.workclass.value_counts().loc[lambda counts: counts > 30].index
    bins, names = [0, 30, 40, 50, 100], ["short", "part", "full", "long"]

    def prepare(df: pd.DataFrame) -> pd.DataFrame:
        work = df["workclass"].replace("?", "unknown")
        work = pd.Categorical(work.where(work.isin(frequent), "other"), [*frequent, "other"])
        hours = pd.cut(df["hours.per.week"], bins, labels=names)
        return pd.get_dummies(pd.DataFrame({"work": work, "hours": hours, "age": df["age"]}))

    X = prepare(rows)
    model = LogisticRegression(max_iter=2000).fit(X[:-LAST], income[:-LAST])

    def predict(df: pd.DataFrame) -> np.ndarray:
        return np.where(model.predict_proba(prepare(df))[:, 1] > 0.3, ">50K", "<=50K")

    own = np.where(model.predict_proba(X[-LAST:])[:, 1] > 0.3, ">50K", "<=50K")
    return Notebook(rows, own, predict, {}, X)


NOTEBOOKS: dict[str, Callable[[], Notebook]] = {
    each.__name__: each
    for each in (
        titanic_by_hand,
        titanic_titles,
        house_prices,
        telco_churn,
        credit_in_a_pipeline,
        loans_as_a_function,
        scaled_and_reduced,
        bike_rentals,
        spam,
        car_prices,
        diamonds,
        incomes,
    )
}
