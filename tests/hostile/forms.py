"""Malformed and odd multipart forms."""

import random
from collections.abc import Iterator

from tests.hostile.wire import CRLF, Hostile, form, part, request, upload

OPERATIONS = part(b'name="operations"', b'["convert_webp"]')
FILENAMES = [
    *(b'filename=""', b'filename="."', b'filename=".."', b'filename="../../etc/passwd"', b'filename="C:\\a.png"'),
    *(b'filename="a\x00b.png"', b'filename="a\tb.png"', b'filename="' + b"a" * 3000 + b'"', b'filename="\xff\xfe.png"'),
    *(b"filename*=utf-8''%00.png", b"filename*=utf-8''..%2F..%2Fx", b"filename*=utf-16''%FF%FE", b"filename*=''", b"filename*="),
    *(b"filename*=idna''xn--a", b"filename*=zlib''%00", b"filename*=" + b"a" * 500 + b"''b", b"filename*0=a; filename*1=b"),
    *(b'filename="=?utf-8?B?!!!!?="', b'filename="=?utf-8?Q?=ZZ?="', b'filename="=?' + b"x" * 900 + b'?Q?a?="'),
    *(b'filename="=?utf-8?B?AAAA?="', b'filename="a.png"; filename="b.png"', b"filename=\xc3\xa9.png", b"filename"),
    *(b'filename="\xed\xa0\x80.png"', b'filename="\\', b'filename="a', b'filename="a%22%0D%0Ab"', b'filename="\xe2\x80\xae.png"'),
    *(b'filename="CON"', b'filename=" "', b'filename="-rf"', b'filename="$(id).png"', b'filename="<script>"'),
]  # fmt: skip


def malformed(image: bytes, seed: int) -> Iterator[Hostile]:
    """Forms that are none, or nearly none."""
    whole = upload(image)
    for name, body in _odd(image).items():
        yield Hostile(name, form(body))
    for name, content_type in {
        "no type": "",
        "text": "text/plain",
        "mixed": "multipart/mixed; boundary=BB",
        "no boundary": "multipart/form-data",
        "empty boundary": "multipart/form-data; boundary=",
        "quoted boundary": 'multipart/form-data; boundary="BB"',
        "another boundary": "multipart/form-data; boundary=CC",
        "long boundary": f"multipart/form-data; boundary={'B' * 5000}",
        "boundary with a line break": 'multipart/form-data; boundary="B\\\nB"',
        "two boundaries": "multipart/form-data; boundary=BB; boundary=CC",
        "json": "application/json",
        "foreign boundary": "multipart/form-data; boundary=\xe9",
    }.items():
        yield Hostile(name, request("POST", "/process", [("Content-Type", content_type)], whole))
    chance = random.Random(seed)
    for number in range(60):
        yield Hostile(f"changed {number}", form(_changed(whole, chance)))
    for number in range(30):
        yield Hostile(f"cut {number}", form(whole[: chance.randrange(len(whole))]))
    for number in range(15):
        short = form(whole).replace(b"Content-Length: ", b"Content-Length: 9")
        yield Hostile(f"unfinished {number}", short[: len(short) - chance.randrange(200)], whole=False)


def names(image: bytes) -> Iterator[Hostile]:
    """Names of files in notations that are wrong, or right and dangerous."""
    for filename in FILENAMES:
        yield Hostile(repr(filename[:40]), form(upload(image, filename=filename)))


def _odd(image: bytes) -> dict[str, bytes]:
    file = part(b'name="file"; filename="a.png"', image)
    end = b"--BB--\r\n"
    return {
        "nothing": b"",
        "only the end": end,
        "only a boundary": b"--BB",
        "line feeds alone": upload(image).replace(CRLF, b"\n"),
        "preamble": b"hello\r\n" + upload(image),
        "epilogue": upload(image) + b"x" * 100_000,
        "no file": OPERATIONS + end,
        "no operations": file + end,
        "file twice": file + file + OPERATIONS + end,
        "operations twice": file + OPERATIONS + OPERATIONS + end,
        "unknown part": file + OPERATIONS + part(b'name="x"', b"1") + end,
        "no name": file + part(b"", b"1") + end,
        "foreign name": file + part(b'name="\xff\x00"', b"1") + end,
        "name of a pointer": file + part(b'name="~/%00"', b"1") + end,
        "a hundred parts": b"".join(part(b'name="operations"', b"[]") for _ in range(100)) + end,
        "a hundred headers": part(b'name="file"; filename="a"', image, *(b"X-%d: 1" % n for n in range(100))) + end,
        "a long header": part(b'name="file"; filename="a"', image, b"X: " + b"a" * 100_000) + end,
        "no colon": part(b'name="file"; filename="a"', image, b"hello") + end,
        "folded": part(b'name="file";\r\n filename="a"', image) + end,
        "no disposition": b"--BB\r\n\r\nx\r\n" + end,
        "attachment": upload(image).replace(b"form-data", b"attachment"),
        "base64": part(b'name="file"; filename="a"', b"aGVsbG8=", b"Content-Transfer-Encoding: base64") + OPERATIONS + end,
        "charset": part(b'name="operations"', b"\xff\xfe[\x00]\x00", b"Content-Type: text/plain; charset=utf-16") + file + end,
        "charset unknown": part(b'name="operations"', b"[]", b"Content-Type: text/plain; charset=klingon") + file + end,
        "nested": part(b'name="file"; filename="a"', upload(image).replace(b"BB", b"CC"), b"Content-Type: multipart/mixed; boundary=CC") + end,
        "long operations": file + part(b'name="operations"', b"[" * 200_000) + end,
        "long address": file + OPERATIONS + part(b'name="webhook_url"', b"http://127.0.0.1/" + b"a" * 100_000) + end,
        "a file as operations": file + part(b'name="operations"; filename="b"', image) + end,
        "text as a file": part(b'name="file"', image) + OPERATIONS + end,
        "boundary in the file": part(b'name="file"; filename="a"', b"\r\n--B" * 10_000) + OPERATIONS + end,
    }  # fmt: skip


def _changed(body: bytes, chance: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(changed))
        action = chance.randrange(3)
        if action == 0:
            changed[place] = chance.randrange(256)
        elif action == 1:
            del changed[place : place + chance.randint(1, 20)]
        else:
            changed[place:place] = chance.choice([b"\r\n", b"\0", b"--BB", b"--BB--", b'"', b"\xff", b";", b"="])
    return bytes(changed)
