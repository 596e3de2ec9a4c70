"""Which addresses are allowed, and that no other one is ever reached."""

import asyncio
import ssl
import threading
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import httpcore
import pytest
import trustme

from app.config import Settings
from app.errors import InvalidWebhookUrl, WebhookUrlRefused
from app.services.webhooks import egress
from app.services.webhooks.egress import Answer, Egress, Network, is_public, parse
from app.services.webhooks.resolver import Resolver, site_of
from tests.support.receiver import answer, drip, drip_body, flood, garble, hang, receiving, reset


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


PORTS = frozenset({80, 443})
LOOPBACK = networks("127.0.0.0/8", "::1/128")
PUBLIC = Egress(PORTS)
LOCAL = Egress(PORTS, LOOPBACK)

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:53aa:64c:0:1:2:3",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:10.0.0.1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_the_public_internet_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_the_public_internet_is_allowed(address: str) -> None:
    assert is_public(ip_address(address))


def check(url: str, rules: Egress = PUBLIC) -> None:
    asyncio.run(rules.check(url))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://①②⑦.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fd00:ec2::254]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost/",
        "http://LOCALHOST/",
        "https://10.1.2.3/",
        "http://0/",
    ],
)
def test_every_way_to_write_a_private_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidWebhookUrl) as refused:
        check(url)
    assert (refused.value.status, refused.value.pointer) == (422, "#/webhook_url")


@pytest.mark.parametrize("url", ["http://8.8.8.8/", "https://8.8.8.8/a?b=c", "https://[2606:4700::1111]/"])
def test_public_addresses_pass(url: str) -> None:
    check(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org/hook",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http://",
        "http:///path",
        "http://user@example.org/",
        "http://user:password@example.org/",
        "http://@example.org/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://exa mple.org/",
        "http://example.org/\r\nX-Injected: 1",
        "http://[fe80::1%25eth0]/",
        "http://\u2028.com/",
    ],
)
def test_what_is_no_url_for_this_is_refused(url: str) -> None:
    with pytest.raises(InvalidWebhookUrl):
        check(url)


def test_a_long_url_is_refused_with_limit_and_value() -> None:
    with pytest.raises(InvalidWebhookUrl) as refused:
        check("https://example.org/" + "a" * 3000)
    assert (refused.value.limit, refused.value.value) == (2048, 3020)


def test_ports_are_those_of_the_settings() -> None:
    with pytest.raises(WebhookUrlRefused) as refused:
        check("https://8.8.8.8:8443/")
    assert (refused.value.value, "80, 443" in refused.value.message) == (8443, True)
    check("https://8.8.8.8:8443/", Egress(frozenset({8443})))


def test_a_named_range_is_allowed_on_any_port_and_nothing_beside_it() -> None:
    rules = Egress(PORTS, networks("10.20.0.0/16"))
    check("http://10.20.1.2:8080/", rules)
    for url in ("http://10.21.1.2/", "http://127.0.0.1/", "http://[::ffff:10.20.1.2]/"):
        with pytest.raises(WebhookUrlRefused):
            check(url, rules)


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(WebhookUrlRefused):
        check("http://mixed.test/", Egress(PORTS, resolve=lambda *_: ["8.8.8.8", "10.0.0.1"]))


def unresolved(*_: Any) -> list[str]:
    raise OSError("no such name")


def test_a_name_that_does_not_resolve_yet_is_accepted_on_an_allowed_port_only() -> None:
    check("https://later.test/", Egress(PORTS, resolve=unresolved))
    with pytest.raises(WebhookUrlRefused):
        check("https://later.test:8443/", Egress(PORTS, resolve=unresolved))


def test_loopback_is_allowed_in_the_embedded_mode_only() -> None:
    assert Settings(_env_file=None).webhook_networks == LOOPBACK
    assert Settings(_env_file=None, host="0.0.0.0").webhook_networks == ()
    assert Settings(_env_file=None, broker_url="amqp://localhost").webhook_networks == ()
    assert Settings(_env_file=None, webhook_allowed_networks="none").webhook_networks == ()
    named = Settings(_env_file=None, broker_url="amqp://localhost", webhook_allowed_networks="10.0.0.0/8, fd00::/8")
    assert named.webhook_networks == networks("10.0.0.0/8", "fd00::/8")


# -- sending -----------------------------------------------------------------------------------------------------------


def post(url: str, rules: Egress = LOCAL, *, seconds: float = 20) -> Answer:
    return asyncio.run(rules.post(url, b"{}", {"Content-Type": "application/json", "X-A": "1"}, seconds=seconds))


def test_a_request_arrives_as_it_was_meant() -> None:
    with receiving(answer(201, b"thanks", retry_after="7")) as receiver:
        got = post(f"{receiver.url}?a=%20b&c=d")
    (request,) = receiver.requests
    assert (request.path, request.body, request.headers["x-a"]) == ("/hook?a=%20b&c=d", b"{}", "1")
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert (got.status, got.body, got.headers["retry-after"]) == (201, b"thanks", "7")


def test_redirects_are_not_followed() -> None:
    with receiving() as target, receiving(answer(302, location=target.url)) as receiver:
        assert post(receiver.url).status == 302
        assert target.requests == []


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.origin)
        post(receiver.url)
        assert (len(receiver.requests), proxy.requests) == (1, [])


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", [hang, drip, drip_body])
def test_the_time_limit_holds_for_the_whole(behaviour: Callable[[Any], None]) -> None:
    with receiving(behaviour) as receiver, pytest.raises(TimeoutError):
        post(receiver.url, seconds=0.5)


def test_a_name_server_that_is_silent_is_given_up_in_time() -> None:
    silent = threading.Event()
    rules = Egress(PORTS, resolve=lambda *_: [str(silent.wait(30))])
    try:
        with pytest.raises(TimeoutError):
            post("http://silent.test/", rules, seconds=0.3)
    finally:
        silent.set()


def test_slow_names_of_one_domain_hold_nobody_else_up() -> None:
    silent, refused = threading.Event(), []

    def names(host: str, _: int) -> list[str]:
        if host.endswith("slow.test"):
            silent.wait(30)
        return ["127.0.0.1"]

    async def ask_all(url: str) -> Answer:
        slow = [rules.post(f"http://h{number}.slow.test/", b"", {}, seconds=20) for number in range(20)]
        tasks = [asyncio.create_task(attempt) for attempt in slow]
        await asyncio.sleep(0.1)
        refused.extend(task for task in tasks if task.done())
        try:
            return await rules.post(url, b"", {}, seconds=20)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    rules = Egress(PORTS, LOOPBACK, resolve=names, sending=Resolver(most=16, of_one=4))
    with receiving() as receiver:
        try:
            got = asyncio.run(ask_all(f"http://quick.test:{receiver.port}/"))
        finally:
            silent.set()
    assert got.status == 204
    assert len(refused) == 20 - 4
    assert all(isinstance(task.exception(), OSError) for task in refused)


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("hooks.example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:4860::8888", "2001:4860::8888"),
        ("localhost", "localhost"),
        ("", ""),
    ],
)
def test_all_names_of_one_owner_are_one_site(host: str, site: str) -> None:
    assert site_of(host) == site


def test_addresses_are_hosts_of_their_own() -> None:
    assert egress.origin_of("http://[2606:4700::1111]/x") == "http://[2606:4700::1111]:80"


def test_a_last_dot_makes_no_other_host() -> None:
    assert egress.origin_of("https://example.org./") == egress.origin_of("https://example.org/")


@pytest.mark.parametrize(("behaviour", "error"), [(reset, httpcore.NetworkError), (garble, httpcore.ProtocolError)])
def test_broken_answers_are_errors(behaviour: Callable[[Any], None], error: type[Exception]) -> None:
    with receiving(behaviour) as receiver, pytest.raises(error):
        post(receiver.url)


def test_of_a_huge_answer_only_the_beginning_is_read() -> None:
    with receiving(flood) as receiver:
        got = post(receiver.url)
    assert (got.status, len(got.body)) == (200, egress.MAX_ANSWER)


class Rebinding:
    """A name server that answers with a harmless address first, and with another one ever after."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, _host: str, _port: int) -> list[str]:
        self.asked += 1
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]


def test_a_name_that_changes_after_the_check_changes_nothing() -> None:
    with receiving() as receiver:
        names = Rebinding("127.0.0.1", "127.0.0.2")
        post(f"http://rebind.test:{receiver.port}/", Egress(PORTS, networks("127.0.0.1/32"), resolve=names))
        assert names.asked == 1
        (request,) = receiver.requests
        assert request.headers["host"] == f"rebind.test:{receiver.port}"


def test_a_name_that_has_become_private_since_it_was_submitted_is_refused() -> None:
    with receiving() as receiver:
        rules = Egress(frozenset({receiver.port}), resolve=Rebinding("8.8.8.8", "127.0.0.1"))
        url = f"http://rebind.test:{receiver.port}/"
        check(url, rules)
        with pytest.raises(WebhookUrlRefused):
            post(url, rules)
        assert receiver.requests == []


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    with receiving() as receiver:
        rules = Egress(PORTS, LOOPBACK, resolve=lambda *_: ["::1", "127.0.0.1"])
        assert post(f"http://both.test:{receiver.port}/", rules).status == 204


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_tls_is_verified(authority: trustme.CA) -> None:
    with receiving(tls=server_tls(authority, "127.0.0.1")) as receiver:
        with pytest.raises(httpcore.ConnectError) as refused:
            post(receiver.url)
        assert isinstance(refused.value.args[0], ssl.SSLCertVerificationError)
        assert post(receiver.url, Egress(PORTS, LOOPBACK, tls=client_tls(authority))).status == 204
        assert len(receiver.requests) == 1


def test_a_certificate_is_held_against_the_name_though_the_address_is_pinned(authority: trustme.CA) -> None:
    with receiving(tls=server_tls(authority, "right.test")) as receiver:
        rules = Egress(PORTS, LOOPBACK, resolve=lambda *_: ["127.0.0.1"], tls=client_tls(authority))
        assert post(f"https://right.test:{receiver.port}/", rules).status == 204
        with pytest.raises(httpcore.ConnectError):
            post(f"https://wrong.test:{receiver.port}/", rules)


def test_urls_are_taken_apart_as_resolvers_need_them() -> None:
    destination = parse("HTTPS://B\u00fccher.Example/a b?q=\u00e4".replace(" ", "%20"))
    assert (destination.host, destination.port) == ("xn--bcher-kva.example", 443)
    assert destination.target == b"/a%20b?q=%C3%A4"
    assert parse("http://[2606:4700::1111]:8080/").host == "2606:4700::1111"
