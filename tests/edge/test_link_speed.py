"""Speeds of links in every form of the Topology Zoo: read, or refused where they are no one clear number."""

import pytest

from ddrl_sched.config import InputError
from ddrl_sched.edge.link_speed import stated_bps


@pytest.mark.parametrize(
    ("link", "mbps"),
    [
        ({"LinkSpeedRaw": 1e9}, 1000),
        ({"LinkSpeedRaw": "1000000000.0"}, 1000),
        ({"LinkSpeed": "155", "LinkSpeedUnits": "M"}, 155),
        ({"LinkSpeed": 2.5, "LinkSpeedUnits": "G"}, 2500),
        ({"LinkSpeed": "64", "LinkSpeedUnits": "k"}, 0.064),
        ({"LinkSpeed": "64", "LinkSpeedUnits": "K"}, 0.064),
        ({"LinkSpeed": 1, "LinkSpeedUnits": "T"}, 1e6),
        ({"LinkSpeed": "10", "LinkSpeedUnits": "Gbps"}, 10_000),
        ({"LinkSpeed": "100", "LinkSpeedUnits": "Mbit/s"}, 100),
        ({"LinkSpeed": "155", "LinkSpeedRaw": 155e6}, 155),
        ({"LinkSpeed": "2.5", "LinkSpeedUnits": "G", "LinkSpeedRaw": 2.488e9, "LinkLabel": "OC-48"}, 2488),
        ({"LinkLabel": "155 Mbps"}, 155),
        ({"LinkLabel": "10Gb/s"}, 10_000),
        ({"LinkLabel": "1gb/s"}, 1000),
        ({"LinkLabel": "1GE Backup Link"}, 1000),
        ({"LinkLabel": "10 GigE"}, 10_000),
        ({"LinkLabel": "10 Gigabit Ethernet"}, 10_000),
        ({"LinkLabel": "Fast Ethernet"}, 100),
        ({"LinkLabel": "OC-3"}, 155.52),
        ({"LinkLabel": "STM-16"}, 2488.32),
        ({"LinkLabel": "OC-192/STM-64"}, 9953.28),
        ({"LinkLabel": "STM-4 (622 Mbps)"}, 622.08),
        ({"LinkLabel": "E3"}, 34.368),
        ({"LinkLabel": "2 x E1"}, 4.096),
        ({"LinkLabel": "1 x 2.5G"}, 2500),
        ({"LinkLabel": "2x10Gbps"}, 20_000),
        ({"label": "622 Mbit/s"}, 622),
        ({"LinkLabel": "10 Gbps (upgrade to 40 Gbps)", "LinkSpeedRaw": 1e10}, 10_000),
    ],
)
def test_speeds_that_are_read(link, mbps):
    assert stated_bps(link, "link") == pytest.approx(mbps * 1e6, rel=1e-12)


@pytest.mark.parametrize(
    "link",
    [
        {},
        {"LinkLabel": "dark"},
        {"LinkLabel": "Lit Fibre", "LinkType": "Fibre"},
        {"LinkLabel": "Link 7"},
        {"LinkLabel": ""},
        {"LinkSpeedRaw": "", "LinkSpeed": "", "LinkSpeedUnits": ""},
        {"label": "E1"},
        {"label": "12"},
        {"LinkLabel": "12 km"},
    ],
)
def test_links_that_state_none(link):
    assert stated_bps(link, "link") is None


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ({"LinkLabel": "Ten GigE"}, "is not one clear speed"),
        ({"LinkLabel": "dual 10G"}, "is not one clear speed"),
        ({"LinkLabel": "10G LAG x2"}, "is not one clear speed"),
        ({"LinkLabel": "10000000 bps"}, "is not one clear speed"),
        ({"LinkLabel": "10e6 bps"}, "is not one clear speed"),
        ({"LinkSpeedRaw": 0}, r"LinkSpeedRaw must be a number in \(0, 1e15\]"),
        ({"LinkSpeedRaw": -1.0}, "LinkSpeedRaw must be a number in"),
        ({"LinkSpeedRaw": 1e16}, "LinkSpeedRaw must be a number in"),
        ({"LinkSpeedRaw": float("nan")}, "LinkSpeedRaw must be a number in"),
        ({"LinkSpeedRaw": [1e9, 1e9]}, "LinkSpeedRaw must be a number in"),
        ({"LinkSpeed": "155-622", "LinkSpeedUnits": "M"}, "LinkSpeed must be one number, got '155-622'"),
        ({"LinkSpeed": "<10", "LinkSpeedUnits": "M"}, "LinkSpeed must be one number, got '<10'"),
        ({"LinkSpeed": "1/10", "LinkSpeedUnits": "G"}, "LinkSpeed must be one number, got '1/10'"),
        ({"LinkSpeed": "2,5", "LinkSpeedUnits": "G"}, "LinkSpeed must be one number"),
        ({"LinkSpeed": "-1", "LinkSpeedUnits": "G"}, "LinkSpeed must be a number in"),
        ({"LinkSpeed": "10"}, "LinkSpeed needs LinkSpeedUnits k, K, M, G or T"),
        ({"LinkSpeed": "10", "LinkSpeedUnits": "MB/s"}, "LinkSpeed needs LinkSpeedUnits .* got 'MB/s'"),
        ({"LinkSpeed": "10", "LinkSpeedUnits": "furlongs"}, "LinkSpeed needs LinkSpeedUnits"),
        ({"LinkSpeedUnits": "G"}, "LinkSpeedUnits 'G' stands without LinkSpeed"),
        ({"LinkSpeed": "10", "LinkSpeedUnits": "G", "LinkSpeedRaw": 1e9}, "contradicts itself: LinkSpeedRaw 10"),
        ({"LinkSpeed": "7", "LinkSpeedRaw": 1e9}, "contradicts itself"),
        ({"LinkLabel": "10 Gbps", "LinkSpeedRaw": 1e9}, "LinkLabel '10 Gbps' contradicts the 1000 Mbit/s"),
        ({"LinkLabel": "10 Gbps", "label": "1 Gbps"}, "label '1 Gbps' contradicts the 10000 Mbit/s"),
        *(
            ({"LinkLabel": label}, "is not one clear speed; write LinkSpeedRaw")
            for label in (
                "155-622 Mbps", "155 - 622 Mbps", "<10 Mbps", "1/10 Gbps", "10G/1G", "1 Gbps - 10 Gbps",
                "up to 100 Mbps",
                "100M+", "10G x 2", "N x 10G", "2,5 Gbps", "10,000 Mbps", "10 MB/s", "100 m", "0 Mbps", "155",
                "1000BASE-T", "3 T1",
            )
        ),
    ],
)  # fmt: skip
def test_speeds_that_are_refused_by_name(link, message):
    with pytest.raises(InputError, match=message) as caught:
        stated_bps(link, "env.network.file: a.gml: link 'x' - 'y'")
    assert str(caught.value).startswith("env.network.file: a.gml: link 'x' - 'y'")
