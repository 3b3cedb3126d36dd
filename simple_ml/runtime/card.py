"""The card: what a model file says of its model, and the answers of a model. export/ writes the card, serving reads it.

It is JSON inside the model file: a property of model.onnx, the first line of model.pkl. So it can be read before
anything of the model is loaded. A new field needs a default, so that the files that are there can still be read.
"""

import json
from dataclasses import asdict, dataclass, field
from pydantic import TypeAdapter, ValidationError
from typing import Any, Literal

# what pandas.read_csv reads as a missing value, unless it is told otherwise (pandas 3.0: na_values)
MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
FORMAT = 2  # raise it when a field changes its meaning
MOST = 20  # rows without an answer that are named

Type = Literal["number", "integer", "boolean", "text", "date", "date-time"]
Form = Literal["frame", "series", "array", "texts", "records"]
Gap = Literal["nan", "none"]
Cell = str | int | float | bool | None  # of a table, as JSON has it


@dataclass(frozen=True)
class Column:
    """A feature, as a row of JSON has it."""

    name: str
    type: Type
    nullable: bool
    categories: list[Cell] | None  # the only values that the model takes, or None
    example: Cell
    description: str | None = None
    gap: Gap = "nan"  # what a missing value was in training: NaN or None
    lowercase: bool = False  # model.onnx gets its texts in small letters
    words: list[str] = field(default_factory=list)  # those of Card.missing that are texts of this column, such as "NA"
    padded: bool = False  # its texts may start with a blank, so those of a CSV file keep theirs
    lowest: float | int | None = None  # of its numbers in training; None for other types, and where it is not known
    highest: float | int | None = None


@dataclass(frozen=True)
class Training:
    date: str  # 2024-01-31
    rows: int
    score: float | None  # as train.py gave it
    python: str
    packages: dict[str, str]  # name: version


@dataclass(frozen=True)
class Extra:
    """A further value in each answer, beside the prediction and the probabilities."""

    name: str
    type: Type
    description: str


@dataclass(frozen=True)
class Proof:
    """How the model file was compared with the model itself, in a new process."""

    rows: int  # that were asked as lists, in two orders
    alone: int  # that were also asked one by one
    kinds: list[str]  # of rows: known ones, and others made from them
    difference: float  # the largest of a number or a probability
    predictions: int  # rows for which the answer is also the one that the notebook gave; 0 if it was not asked
    packages: dict[str, str]  # name: version, of what serves the file


@dataclass(frozen=True)
class Card:
    columns: list[Column]
    form: Form  # of the X that the model was fitted with
    predicts: Type | list[Type]  # what a prediction is; a list if the targets differ
    classes: list[str | int | float | bool]  # empty if the model does not predict one class
    targets: list[str] | int | None  # the names of several predicted values, or how many; None for one value
    probabilities: bool
    extras: list[Extra]
    training: Training
    title: str | None = None
    description: str | None = None
    most_probable: bool = False  # the prediction is the most probable class, so predict() need not be asked
    outputs: list[str] = field(default_factory=list)  # of model.onnx: the predictions, the probabilities, the extras
    encoded: bool = False  # model.onnx predicts the numbers of the classes, from 0
    unread: list[Column] = field(default_factory=list)  # the model wants these, but no answer depends on them
    proof: Proof | None = None
    missing: list[str] = field(default_factory=lambda: list(MISSING))  # cells of a CSV file that are missing values
    format: int = FORMAT

    @property
    def example(self) -> dict[str, Cell]:
        """A row that the model answers."""
        return {column.name: column.example for column in self.columns}

    @property
    def count(self) -> int:
        """How many values a prediction has."""
        return len(self.targets) if isinstance(self.targets, list) else self.targets or 1

    @property
    def about(self) -> dict[str, Any]:
        """What /healthz says of the model."""
        return {"title": self.title, "description": self.description, "trained": self.training}

    @property
    def proven(self) -> str:
        """How the answers of the file were compared with the model's own, in words."""
        if self.proof is None:
            return "The file does not say how its answers were compared with the model's own: export it again."
        lists, alone, count = self.proof.rows, self.proof.alone, self.proof.predictions
        notebook = f"All {count} answers are" if count else "It was not compared with"
        return (
            f"The file gives the model's own answers: compared on {lists} rows in lists and {alone} alone, "
            f"largest difference {self.proof.difference:.1g}. {notebook} the notebook's own predictions."
        )

    @property
    def class_names(self) -> list[str]:
        """The classes as names of JSON: 1 is "1", True is "true"."""
        return [value if isinstance(value, str) else json.dumps(value) for value in self.classes]


@dataclass(frozen=True)
class Answers:
    """What a model answers to n rows, in their order."""

    predictions: list[Any]  # n classes or numbers; lists of them if there are several targets
    probabilities: list[list[float]] | None = None  # (n, classes), in the order of Card.classes
    extras: dict[str, list] = field(default_factory=dict)  # the n values of each of Card.extras

    def first(self, count: int) -> "Answers":
        """Return the answers to so many rows, and not to those after them."""
        extras = {name: values[:count] for name, values in self.extras.items()}
        return Answers(self.predictions[:count], self.probabilities and self.probabilities[:count], extras)


class NoAnswer(Exception):
    """The model has no answer to some `rows`, counted from 0, and why, as a sentence.

    It names at most MOST of them.
    """

    def __init__(self, sentence: str, rows: list[int]) -> None:
        super().__init__(sentence)
        self.rows = rows


def write(card: Card) -> str:
    """Return a card as one line of JSON."""
    return json.dumps(asdict(card))


def read(text: str | bytes) -> Card:
    """Return the card that `write` made, with every field checked. Raises ValueError, as the end of a sentence."""
    try:
        number = TypeAdapter(dict[str, Any]).validate_json(text).get("format", 1)
        if number != FORMAT:
            age = "an older" if isinstance(number, int) and number < FORMAT else "a newer"
            raise ValueError(f"it was made by {age} export (format {number}, and this is {FORMAT})")
        return TypeAdapter(Card).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"its card is damaged ({place}: {first['msg']})") from None
