"""Fuzz /predict of an example, guided by coverage (https://github.com/google/atheris).

    python fuzz.py simple_ml -max_total_time=600    # takes every option of libFuzzer: -help=1 lists them

These are errors: an exception, an answer that is neither 200 nor a 4xx with a reason, a request that takes 30 seconds,
and 2 GB of memory. The fuzzer stops at the first one and writes the request's body to a file in .run/fuzz, or in the
folder FUZZ_FOLDER. Give that file as an argument to send it again. The folder also keeps interesting inputs, with which
the next run starts.
"""

import contextlib
import hashlib
import importlib
import io
import os
import sys
import zlib
from pathlib import Path
from types import ModuleType

try:
    import atheris
except ImportError:
    sys.exit("Atheris is not installed: it runs only on Linux on x86-64.")

ROOT = Path(__file__).resolve().parent.parent
KEPT = Path(os.environ.get("FUZZ_FOLDER", ROOT / ".run" / "fuzz"))
TARGETS = ["passing_arguments", "simple_ml", "image_classification", "image_classification_form"]
# the modules and folders of the examples
OURS = ["app", "predict", "predict_timeout", "schema", "openapi", "runtime", "web", "preprocess", "digit"]
INSTRUMENTED = [*OURS, "multipart", "PIL", "pillow_heif"]  # the other packages are compiled, or Flask
OPTIONS = ["-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1", "-max_len=20000"]
FORM = "multipart/form-data; boundary=x"
STATUSES = {200, 400, 413, 415, 422}


def pictures() -> list[bytes]:
    """Return small pictures of a digit: in each format and mode, with several frames, and from a phone."""
    image_module = importlib.import_module("PIL.Image")
    samples = ROOT / "image_classification" / "samples"
    seven = image_module.open(samples / "seven.png").convert("L").resize((28, 28))
    files = [samples / "seven.png", samples / "three_photo.heic"]
    made = [file.read_bytes() for file in files if file.stat().st_size < 20_000]
    for format in ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF"):
        for mode in ("L", "P", "RGBA", "1", "CMYK"):
            frames = {"save_all": True, "append_images": [seven.rotate(9).convert(mode)]} if mode == "P" else {}
            with contextlib.suppress(OSError, ValueError, KeyError):  # not every format has every mode, or frames
                file = io.BytesIO()
                seven.convert(mode).save(file, format, **frames)
                made.append(file.getvalue())
    return made


def in_form(picture: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + picture + b"\r\n--x--\r\n"


def seeds(target: str) -> list[bytes]:
    """Return the first inputs of the fuzzer: good ones, and bad ones from the tests."""
    if target == "passing_arguments":
        return [b"5", b" -2.5e3\n", b"1e154", b"NaN", b"-Infinity", b'"5"', b"[5]", b'{"a": [null, true]}', b"9" * 155]
    if target == "simple_ml":
        row = b'{"f1": 4, "f2": 5.5, "f3": 1e1}'
        return [
            row,
            b"[" + row + b", " + row + b"]",
            b'{"f1": NaN, "f2": -1e39, "f\\u0033": 10}',
            b"[[]]",
            b'{"f1": ""}',
        ]
    return [in_form(file) for file in pictures()[:9]] if target.endswith("_form") else pictures()


def with_checksums(file: bytes) -> bytes:
    """Correct the checksums of a changed PNG, because a decoder stops at the first wrong one."""
    fixed, at = bytearray(file), 8
    while file.startswith(b"\x89PNG") and at + 12 <= len(file):
        end = at + 8 + int.from_bytes(file[at : at + 4])
        fixed[end : end + 4] = zlib.crc32(file[at + 4 : end]).to_bytes(4) if end + 4 <= len(file) else b""
        at = end + 4
    return bytes(fixed)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    mutated = atheris.Mutate(data, max_size)
    return with_checksums(mutated) if seed % 2 else mutated


def json_in_python() -> ModuleType:
    """Return a second `json` without its part in C, so that the fuzzer can follow it and learn the syntax of JSON."""
    first = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] in ("json", "_json")}
    sys.modules["_json"] = None  # type: ignore[assignment]  # hides it
    with atheris.instrument_imports(include=["json"]):
        second = importlib.import_module("json")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("json", "_json")]:
        del sys.modules[name]
    sys.modules.update(first)  # for the app
    return second


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"Name a target: {', '.join(TARGETS)}.")
    target, options = sys.argv[1], sys.argv[2:]
    example = target.removesuffix("_form")
    sys.path.insert(0, str(ROOT / example))
    os.environ["PREDICT_TIMEOUT"] = "0"  # libFuzzer uses the same timer, and finds what takes long
    with atheris.instrument_imports(include=INSTRUMENTED):
        app = importlib.import_module("app").app
    app.testing = True  # an exception reaches the fuzzer, instead of becoming a 500
    client = app.test_client()
    content_type = FORM if target.endswith("_form") else "application/octet-stream"
    json = None if example == "image_classification" else json_in_python()

    def send(data: bytes) -> None:
        if json:
            with contextlib.suppress(ValueError, RecursionError):
                json.loads(data)  # to guide the fuzzer
        answer = client.post("/predict", data=data, content_type=content_type)
        assert answer.status_code in STATUSES, answer.status
        if answer.status_code != 200:
            assert answer.content_type == "application/problem+json", answer.content_type
            assert answer.json["detail"], answer.text

    words = [f"-dict={Path(__file__).with_name('json.dict')}"] if json else []
    arguments = [*OPTIONS, *words, f"-artifact_prefix={KEPT}/{target}-", *options]
    if all(option.startswith("-") for option in options):  # otherwise they are files to send again
        corpus = KEPT / target
        corpus.mkdir(parents=True, exist_ok=True)
        for seed in seeds(target):
            (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)  # libFuzzer's own names
        arguments.append(str(corpus))
    atheris.Setup([sys.argv[0], *arguments], send, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
