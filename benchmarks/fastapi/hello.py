"""GET / in FastAPI, as in its first steps, with a text as the answer."""

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
async def root() -> str:
    return "Hello World\n"
