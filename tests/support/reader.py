"""A program that uses files as a user's would, in a process of its own that can be killed while it waits.

    reader.py cat PATH                     bytes to standard output
    reader.py at PATH OFFSET LENGTH        the same, of a part
    reader.py hold PATH                    opens it; then each line "OFFSET LENGTH" on standard input reads that part
    reader.py mmap PATH                    sha256 of the file through mmap
    reader.py sum PATH                     sha256 of the file
    reader.py compare A B [SEED]           compares two trees byte for byte, in an order of the seed's
    reader.py meet DIR SUMS SEED           a tree by the seed's way: walked, or name by name in no order; SUMS is {name: sha256}
    reader.py decode DIR PART PARTS        decodes every image below it, or every PARTS-th of them
    reader.py write PATH                   tries every way to change a read-only tree; prints {way: errno name}

A failing call prints {"errno": NAME, "what": ...} and ends with status 1.
"""

import errno
import hashlib
import json
import mmap
import os
import random
import sys


def read_at(fd: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0:
        part = os.pread(fd, min(length, 8 << 20), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)


def whole(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_at(fd, 0, 1 << 62)
    finally:
        os.close(fd)


def files_below(root: str) -> list[str]:
    found = []

    def refuse(error):
        raise error

    for folder, _, names in os.walk(root, onerror=refuse):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                found.append(os.path.relpath(path, root))
    return sorted(found)


def hold(path: str):
    fd = os.open(path, os.O_RDONLY)
    print(json.dumps({"size": os.fstat(fd).st_size}), flush=True)
    for line in sys.stdin:
        offset, length = map(int, line.split())
        try:
            data = read_at(fd, offset, length)
            print(json.dumps({"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}), flush=True)
        except OSError as error:
            print(json.dumps({"errno": errno.errorcode[error.errno]}), flush=True)


def compare(a: str, b: str, seed: str = ""):
    names = files_below(a)
    if not seed:
        other = files_below(b)
        if names != other:
            missing, extra = sorted(set(names) - set(other)), sorted(set(other) - set(names))
            print(json.dumps({"what": "names differ", "missing": missing[:5], "extra": extra[:5]}))
            sys.exit(1)
    else:
        random.Random(seed).shuffle(names)
    total = 0
    for name in names:
        left, right = whole(os.path.join(a, name)), whole(os.path.join(b, name))
        if left != right:
            at = next((i for i, (x, y) in enumerate(zip(left, right)) if x != y), min(len(left), len(right)))
            print(json.dumps({"what": f"{name} differs at byte {at}", "sizes": [len(left), len(right)]}))
            sys.exit(1)
        total += len(left)
    print(json.dumps({"files": len(names), "bytes": total}))


def meet(root: str, sums: str, seed: str):
    with open(sums) as f:
        expected = json.load(f)
    rng, wrong = random.Random(seed), []

    def check(name: str):
        try:
            if hashlib.sha256(whole(os.path.join(root, name))).hexdigest() != expected.get(name):
                wrong.append(f"{name}: wrong bytes")
        except OSError as error:
            wrong.append(f"{name}: {errno.errorcode[error.errno]}")

    way = rng.choice(["read all", "read some", "by name"])
    if way == "by name":
        names = list(expected)
        rng.shuffle(names)
        for name in names:
            check(name)
            if rng.random() < 0.02 and os.path.lexists(os.path.join(root, name + " not")):
                wrong.append(f"{name} not: it is there")
    else:
        names = files_below(root)
        wrong += [f"{name}: missing" for name in expected.keys() - set(names)]
        for name in names:
            if way == "read all" or rng.random() < 0.3:
                check(name)
    if wrong:
        print(json.dumps({"what": f"{way}, seed {seed}: {len(wrong)} wrong answers", "wrong": sorted(wrong)[:5]}))
        sys.exit(1)
    print(json.dumps({"files": len(names)}))


def decode(root: str, part: str, parts: str):
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    pixels = 0
    names = files_below(root)[int(part) :: int(parts)]
    for name in names:
        with Image.open(os.path.join(root, name)) as image:
            image.load()
            pixels += image.width * image.height
    print(json.dumps({"files": len(names), "pixels": pixels}))


def write(root: str):
    names = files_below(root)
    file = os.path.join(root, names[0])
    new = os.path.join(root, "new")
    ways = {
        "create": lambda: os.open(new, os.O_CREAT | os.O_WRONLY),
        "open for writing": lambda: os.open(file, os.O_WRONLY),
        "open for both": lambda: os.open(file, os.O_RDWR),
        "append": lambda: os.open(file, os.O_WRONLY | os.O_APPEND),
        "open and cut": lambda: os.open(file, os.O_WRONLY | os.O_TRUNC),
        "truncate": lambda: os.truncate(file, 0),
        "unlink": lambda: os.unlink(file),
        "rename": lambda: os.rename(file, new),
        "link": lambda: os.link(file, new),
        "symlink": lambda: os.symlink("x", new),
        "mkdir": lambda: os.mkdir(new),
        "mkdir __pycache__": lambda: os.mkdir(os.path.join(root, "__pycache__")),
        "rmdir": lambda: os.rmdir(root + "/" + next(n for n in os.listdir(root) if os.path.isdir(os.path.join(root, n)))),
        "mkfifo": lambda: os.mkfifo(new),
        "chmod": lambda: os.chmod(file, 0o777),
        "chown": lambda: os.chown(file, 1, 1),
        "utime": lambda: os.utime(file),
        "setxattr": lambda: os.setxattr(file, "user.x", b"x"),
    }
    outcome = {}
    for way, act in ways.items():
        try:
            act()
            outcome[way] = "done"
        except OSError as error:
            outcome[way] = errno.errorcode[error.errno]
    print(json.dumps(outcome))


def main():
    way, *arguments = sys.argv[1:]
    if way == "cat":
        sys.stdout.buffer.write(whole(arguments[0]))
    elif way == "at":
        fd = os.open(arguments[0], os.O_RDONLY)
        sys.stdout.buffer.write(read_at(fd, int(arguments[1]), int(arguments[2])))
    elif way == "hold":
        hold(*arguments)
    elif way == "mmap":
        with open(arguments[0], "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as view:
            print(hashlib.sha256(view).hexdigest())
    elif way == "sum":
        print(hashlib.sha256(whole(arguments[0])).hexdigest())
    elif way == "compare":
        compare(*arguments)
    elif way == "meet":
        meet(*arguments)
    elif way == "decode":
        decode(*arguments)
    elif way == "write":
        write(*arguments)
    else:
        sys.exit(f"unknown: {way}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(json.dumps({"errno": errno.errorcode.get(error.errno, str(error.errno)), "what": str(error)}))
        sys.exit(1)
