"""Pin the base images by digest: `image_digests.py` asks registries and writes, `image_digests.py --check` only tells.

The digests go behind the tags in Dockerfile and compose.yaml. They are asked for by `docker buildx imagetools inspect`,
which pulls nothing; a tag keeps the digest that it has if one of them cannot be had.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
BASE = re.compile(r"^FROM (\S+):\$\{(\w+)\}", re.MULTILINE)
"""Base image of a stage of the Dockerfile: its name, and the argument that holds its tag."""
ARGUMENT = r"^(ARG {}=)([^\s@]+)(?:@(\S+))?$"
SERVICE = re.compile(r"^(\s+image: )((?!cifar-lab:)[^\s:@]+:[^\s@]+)(?:@(\S+))?$", re.MULTILINE)
"""Image of others in compose.yaml: its name and tag, and the digest if it is pinned."""


def pinned(dockerfile: str, compose: str, digest_of: Callable[[str], str]) -> tuple[str, str]:
    """Return both texts with the digest of each image of others, which `digest_of` returns for a name with its tag."""
    for name, argument in BASE.findall(dockerfile):
        pattern = re.compile(ARGUMENT.format(argument), re.MULTILINE)
        dockerfile = pattern.sub(lambda at, name=name: f"{at[1]}{at[2]}@{digest_of(f'{name}:{at[2]}')}", dockerfile)
    return dockerfile, SERVICE.sub(lambda at: f"{at[1]}{at[2]}@{digest_of(at[2])}", compose)


def images(dockerfile: str, compose: str) -> dict[str, str | None]:
    """Return the images of others, as names with tags, and the digest of each that is pinned."""
    result: dict[str, str | None] = {}
    for name, argument in BASE.findall(dockerfile):
        for _, tag, digest in re.findall(ARGUMENT.format(argument), dockerfile, re.MULTILINE):
            result[f"{name}:{tag}"] = digest or None
    return result | {image: digest or None for _, image, digest in SERVICE.findall(compose)}


def registry_digest(image: str) -> str:
    """Return the digest that the registry has for a name with its tag now, of all platforms together.

    Raises:
        ValueError: docker has no buildx, or the registry does not know the image or is out of reach.
    """
    line = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", image]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(f"{image}: docker cannot be started ({error.strerror})") from error
    digest = done.stdout.strip()
    if done.returncode or not DIGEST.fullmatch(digest):
        said = (done.stderr.strip() or done.stdout.strip() or "no answer").splitlines()
        raise ValueError(f"{image}: {said[0]} (docker with buildx and a network are needed)")
    return digest


def main(*words: str) -> int:
    """Write the digests, or only tell with `--check`; return the exit code: 1 if an image is not pinned."""
    if words not in {(), ("--check",)}:
        print("usage: image_digests.py [--check]", file=sys.stderr)
        return 2
    paths = (FOLDER / "Dockerfile", FOLDER / "compose.yaml")
    before = (paths[0].read_text(), paths[1].read_text())
    if not words:
        try:
            after = pinned(*before, registry_digest)
        except ValueError as error:
            print(f"image_digests: {error}; nothing is changed", file=sys.stderr)
            return 1
        for path, text in zip(paths, after, strict=True):
            path.write_text(text)
        before = after
    every = images(*before)
    for image, digest in every.items():
        print(f"{image} {digest or 'is not pinned: make image-digests'}")
    return 0 if all(every.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
