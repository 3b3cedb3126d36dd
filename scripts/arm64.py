"""Build the four images for ARM, such as Apple silicon and Graviton, and ask each the question of its README.

Arguments are given to `docker buildx build`.
"""

import re
import subprocess
import sys
from examples import IMAGES, ROOT, docker, inside, request_of, run, runs, wait_for_answer
from run import docker_problem

PLATFORM = "linux/arm64"
ANSWERS = {  # how they begin, as on Intel; with a probability, because a wrong model may be right by chance
    "hello_world": "Hello World",
    "passing_arguments": "25",
    "simple_ml": '{"prediction":"virginica","probabilities":{"setosa":0.000',
    "image_classification": '{"prediction":7,"probabilities":{"0":0.000',
}
SECONDS = 300  # for the first answer: an emulator is slow
NO_BUILDX = "Docker has no buildx here: run `sudo apt install docker-buildx`, or install Docker Desktop."
NO_EMULATOR = (
    "This machine cannot run programs for ARM, because it has no emulator. Install one: "
    "`docker run --privileged --rm tonistiigi/binfmt --install arm64`, "
    "or `sudo apt install qemu-user-static` (not on Debian 12: QEMU 7.2 is too old). Docker Desktop brings one."
)


def problem() -> str | None:
    """Say why images for ARM cannot be built and run here, and what to do about it; None if they can."""
    if reason := docker_problem():
        return f"Images for ARM need Docker, but {reason}."
    if subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode:
        return NO_BUILDX
    platforms = re.findall(r"[\w/]+", docker("buildx", "inspect", "--bootstrap"))
    return None if PLATFORM in platforms else NO_EMULATOR


def build(example: str, *options: str) -> str:
    """Build an example's image for ARM and return its name. Docker shows what it does."""
    image = f"{IMAGES[example]}:arm64"
    command = ["docker", "buildx", "build", "--load", "--platform", PLATFORM, "--tag", image, *options]
    if subprocess.run([*command, ROOT / example]).returncode:
        raise RuntimeError(f"The image of {example} cannot be built for {PLATFORM}. The reason is above.")
    return image


def check(example: str, image: str) -> str:
    """Run an image and return its answer. Raises RuntimeError if it is wrong, or does not come from an ARM program."""
    port, name = run(image, "--platform", PLATFORM)
    try:
        answer = wait_for_answer(port, request_of(example), lambda: runs(name), seconds=SECONDS).decode().strip()
        processor = inside(name, "uname -m")
    except RuntimeError:
        subprocess.run(["docker", "logs", name], stderr=subprocess.STDOUT)
        raise
    finally:
        docker("rm", "--force", name)
    if not answer.startswith(ANSWERS[example]):
        raise RuntimeError(f"{example} answers {answer!r}, which does not begin with {ANSWERS[example]!r}.")
    if processor != "aarch64":
        raise RuntimeError(f"{example} runs on {processor}, not on aarch64.")
    return answer


def main() -> None:
    if reason := problem():
        sys.exit(reason)
    try:
        images = {example: build(example, *sys.argv[1:]) for example in IMAGES}
        for example, image in images.items():
            print(f"{example:22}{PLATFORM}  {check(example, image)}", flush=True)
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
