from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from monitor.audio.egress import ANYWHERE, Egress, connect, resolve
from monitor.errors import SourceError, StreamReason

PUBLIC = ["1.1.1.1", "193.0.6.139", "2001:67c:2e8:22::c100:68b", "::ffff:1.1.1.1", "64:ff9b::101:101"]
OTHER = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "239.1.2.3", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1",
    "fec0::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_may_be_reached(address):
    assert Egress().allows(ip_address(address))


@pytest.mark.parametrize("address", OTHER)
def test_everything_else_only_where_it_is_allowed(address):
    assert not Egress().allows(ip_address(address))
    assert ANYWHERE.allows(ip_address(address))


def test_a_network_that_is_named_may_be_reached_and_no_other():
    egress = Egress(networks=(ip_network("10.1.0.0/16"), ip_network("fd00::/8")))
    assert egress.allows(ip_address("10.1.2.3"))
    assert egress.allows(ip_address("::ffff:10.1.2.3"))
    assert egress.allows(ip_address("fd12::1"))
    assert not egress.allows(ip_address("10.2.0.1"))
    assert not egress.allows(ip_address("fe80::1"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0x7f.1", "2130706433", "0"])
async def test_however_loopback_is_written_it_is_denied(host):
    with pytest.raises(SourceError) as raised:
        await resolve(host, 80, Egress())
    assert raised.value.reason is StreamReason.ADDRESS_DENIED


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "exa mple", ""])
async def test_what_is_no_host(host):
    with pytest.raises(SourceError) as raised:
        await connect(host, 80, Egress(), timeout_s=20)
    assert raised.value.reason in {StreamReason.DNS, StreamReason.ADDRESS_DENIED}
