"""Settings: pool.toml and a volume's, with every mistake that a person can make in them."""

import pytest

from lifecycle import CrashPolicy, InvalidConfig, InvalidName, InvalidPolicy, Kind, config
from lifecycle.cli.settings import read_setting
from lifecycle.config import PoolConfig, VolumeConfig
from lifecycle.errors import NewerFormat

WHERE = "/srv/vms/pool.toml"


def read(text: str) -> PoolConfig:
    return config.read_pool(WHERE, text.encode())


# ---------------------------------------------------------------- pool.toml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", PoolConfig()),
        ("# a comment\r\n", PoolConfig()),
        ('keep = "last 2, 7 daily"', PoolConfig(keep="last 2, 7 daily")),
        ("revisions_to_keep = 3", PoolConfig(keep="last 3")),
        ("revisions_to_keep = 0", PoolConfig(keep="last 0")),
        ('driver = "block-store"', PoolConfig(driver="block-store")),
        ('on_crash = "commit"', PoolConfig(on_crash=CrashPolicy.COMMIT)),
        ('timezone = "Europe/Berlin"', PoolConfig(timezone="Europe/Berlin")),
        ("setup_check = false", PoolConfig(setup_check=False)),
        ("lock_timeout = 0", PoolConfig(lock_timeout=0)),
        ("lock_timeout = 0.25", PoolConfig(lock_timeout=0.25)),
        ("lock_timeout = 86400", PoolConfig(lock_timeout=86400)),
        ('reserve = "10G"', PoolConfig(reserve="10G")),
        ("prune_for_reserve = true", PoolConfig(prune_for_reserve=True)),
    ],
)
def test_a_setting_is_read_and_the_others_are_at_their_defaults(
    text: str, expected: PoolConfig
) -> None:
    assert read(f"format = 1\n{text}\n") == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        # not a pool.toml at all
        ("", "has no `format` number"),
        ('keep = "last 5"', "has no `format` number"),
        ("format", "is not TOML"),
        ("{}", "is not TOML"),
        ("format = 1\nformat = 1", "is not TOML"),
        ("format = 1\nkeep = last 5", "is not TOML"),
        ("format = 1\nkeep = 2024-13-45", "is not TOML"),
        ("format = 1\0", "is not TOML"),
        ("\ufeffformat = 1", "is not TOML"),
        ("format = 1\nkeep = " + "[" * 100_000, "is not TOML"),
        # another format
        ('format = "1"', "has no `format` number"),
        ("format = 1.0", "has no `format` number"),
        ("format = true", "has no `format` number"),
        ("format = [1]", "has no `format` number"),
        ("format = 0", "has an unknown format 0"),
        ("format = -1", "has an unknown format -1"),
        ("format = 2", "was written by a newer version of lifecycle (format 2, this one reads 1)"),
        ("format = 2\nnew_key = 1", "upgrade lifecycle to use it"),
        # unknown keys
        ("format = 1\nkepp = 1", "has an unknown key `kepp`; known are format, driver, keep"),
        ("format = 1\nwhere = 1", "has an unknown key `where`"),
        ("format = 1\n[pool]\nkeep = 1", "has an unknown key `pool`"),
        ("format = 1\n'' = 1", "has an unknown key ``"),
        # values of the wrong type
        ("format = 1\nkeep = 5", "`keep` cannot be 5"),
        ('format = 1\nkeep = ["last 5"]', "`keep` cannot be ['last 5']"),
        ("format = 1\n[keep]\nlast = 5", "`keep` cannot be {'last': 5}"),
        ("format = 1\ndriver = 1979-05-27", "`driver` cannot be datetime.date(1979, 5, 27)"),
        ("format = 1\non_crash = 1", "`on_crash` cannot be 1"),
        ("format = 1\ntimezone = 1", "`timezone` cannot be 1"),
        ('format = 1\nsetup_check = "no"', "`setup_check` cannot be 'no'"),
        ("format = 1\nsetup_check = 0", "`setup_check` cannot be 0"),
        ("format = 1\nlock_timeout = true", "`lock_timeout` cannot be True"),
        ('format = 1\nlock_timeout = "30"', "`lock_timeout` cannot be '30'"),
        ("format = 1\nreserve = 5", "`reserve` cannot be 5"),
        ('format = 1\nprune_for_reserve = "yes"', "`prune_for_reserve` cannot be 'yes'"),
        # values that cannot be
        ('format = 1\non_crash = "ignore"', "`on_crash` is one of resume, commit, revert"),
        ('format = 1\non_crash = "RESUME"', "`on_crash` is one of resume, commit, revert"),
        ("format = 1\nlock_timeout = -1", "`lock_timeout` is a number of seconds from 0 to 86400"),
        ("format = 1\nlock_timeout = 86401", "`lock_timeout` is a number of seconds"),
        ("format = 1\nlock_timeout = inf", "`lock_timeout` is a number of seconds"),
        ("format = 1\nlock_timeout = nan", "`lock_timeout` is a number of seconds"),
        ("format = 1\nhook_timeout = 0", "`hook_timeout` is a number of seconds above 0"),
        ("format = 1\nhook_timeout = 86401", "`hook_timeout` is a number of seconds above 0"),
        ("format = 1\nhook_timeout = nan", "`hook_timeout` is a number of seconds above 0"),
        ("format = 1\nrevisions_to_keep = -1", "`revisions_to_keep` is a whole number"),
        ("format = 1\nrevisions_to_keep = 99999999999", "`revisions_to_keep` is a whole number"),
        ("format = 1\nrevisions_to_keep = 1.5", "`revisions_to_keep` is a whole number"),
        ("format = 1\nrevisions_to_keep = true", "`revisions_to_keep` is a whole number"),
        ('format = 1\nrevisions_to_keep = "5"', "`revisions_to_keep` is a whole number"),
        (
            'format = 1\nkeep = "last 5"\nrevisions_to_keep = 5',
            "has both `keep` and `revisions_to_keep`; leave one of them",
        ),
    ],
)
def test_a_mistake_in_pool_toml_is_answered_with_the_file_and_the_reason(
    text: str, complaint: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        read(text)
    assert caught.value.where == WHERE
    assert complaint in caught.value.reason
    assert str(caught.value).startswith(f"{WHERE}: ")
    assert len(str(caught.value)) < 300


HUGE = "0x" + "f" * 5000  # TOML has no limit; Python writes out no number of more than 4300 digits


@pytest.mark.parametrize(
    "text",
    [
        "format = " + "1" * 5000,
        f"format = {HUGE}",
        f"format = 1\nrevisions_to_keep = {HUGE}",
        f"format = 1\nlock_timeout = {HUGE}",
        f"format = 1\ndriver = {HUGE}",
    ],
    ids=["format", "format in hexadecimal", "revisions_to_keep", "lock_timeout", "driver"],
)
def test_a_number_too_long_to_be_written_out_is_a_mistake_like_others(text: str) -> None:
    with pytest.raises(InvalidConfig):
        read(text)


@pytest.mark.parametrize(
    "content", [b"\xff\xfeformat = 1", b'format = 1\nkeep = "\xe9"', b"\x80", bytes(range(256))]
)
def test_a_pool_toml_that_is_not_utf_8_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidConfig, match="is not TOML"):
        config.read_pool(WHERE, content)


def test_a_newer_pool_toml_says_which_formats_and_what_to_do() -> None:
    with pytest.raises(NewerFormat) as caught:
        read("format = 7")
    assert (caught.value.found, caught.value.known) == (7, config.POOL_FORMAT)
    assert "upgrade lifecycle" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('keep = ""', "it is empty"),
        ('timezone = "Mars/Olympus"', "there is no time zone of that name"),
        ('timezone = ""', "there is no time zone of that name"),
    ],
)
def test_a_bad_policy_or_time_zone_in_pool_toml_is_refused(text: str, complaint: str) -> None:
    with pytest.raises((InvalidPolicy, InvalidConfig), match=r"/srv/vms/pool\.toml") as caught:
        read(f"format = 1\n{text}\n")
    assert complaint in caught.value.reason


def test_a_pool_opens_though_its_policy_names_a_plugin_that_is_not_there() -> None:
    assert read('format = 1\nkeep = "last 2, fortnightly 3"\n').keep == "last 2, fortnightly 3"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"keep": "last 2, 7 daily,\n within 2d"},
        {"driver": "block-store"},
        {"driver": 'a "quoted" \\ name'},
        {"driver": "größe"},
        {"driver": "💾"},
        {"on_crash": "revert", "timezone": "Europe/Berlin"},
        {"setup_check": False, "lock_timeout": 0},
        {"lock_timeout": 1e-7},
        {"reserve": "5%", "prune_for_reserve": True},
        {"lock_timeout": 86400},
    ],
)
def test_a_pool_toml_that_was_written_is_read_back(settings: dict[str, object]) -> None:
    found = config.pool_config(WHERE, **settings)
    assert config.read_pool(WHERE, config.write_pool(found)) == found


def test_a_pool_toml_shows_every_setting_and_those_at_their_defaults_as_comments() -> None:
    written = config.write_pool(PoolConfig(keep="last 5", on_crash=CrashPolicy.COMMIT))
    comment, *lines = written.decode().splitlines()
    assert comment.startswith("# ")
    assert lines[:5] == [
        "format = 1",
        'driver = "reflink"',
        'keep = "last 5"',
        'on_crash = "commit"',
        '# timezone = "UTC"',
    ]
    shown = [line.removeprefix("# ").partition(" = ")[0] for line in lines]
    assert shown == ["format", *PoolConfig._fields]
    assert all(line.startswith("# ") for line in lines[5:])


@pytest.mark.parametrize(
    ("reserve", "reserved"),
    [
        ("", 0),
        ("0%", 0),
        ("5%", 500),
        ("99%", 9900),
        ("12.5%", 1250),
        ("0.125%", 12),
        ("512", 512),
        ("10G", 10 << 30),
    ],
)
def test_a_reserve_is_a_share_of_the_pool_or_a_size(reserve: str, reserved: int) -> None:
    found = config.pool_config(WHERE, reserve=reserve)
    assert found.reserved(10_000) == reserved


@pytest.mark.parametrize(
    "reserve",
    [
        *("%", "5 %", "-5%", "+5%", "5%%", "%5", "100%", "150%", "1e1%", "nan%", "inf%"),
        *("five", "-1G", "1.5G", "0", "513", "9E", "5G%", "\u0665%"),
    ],
)
def test_a_reserve_that_is_neither_is_refused(reserve: str) -> None:
    with pytest.raises(InvalidConfig, match="`reserve` is a share such as 5% or a size") as caught:
        config.pool_config(WHERE, reserve=reserve)
    assert caught.value.where == WHERE


# ---------------------------------------------------------------- a volume's configuration


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, Kind.PERSISTENT),
        ({"save_on_stop": False}, Kind.VOLATILE),
        ({"save_on_stop": False, "source": "tpl/root"}, Kind.DISPOSABLE),
    ],
)
def test_two_flags_say_what_kind_a_volume_is(settings: dict[str, object], kind: Kind) -> None:
    found = config.check_config("vm/a", config.volume_config("vm/a", **settings))
    assert found.kind is kind
    assert found.snap_on_start is (kind is Kind.DISPOSABLE)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sise": 512}, "sise"),
        ({"kind": "volatile"}, "kind"),
        ({"size": "1G"}, "`size` cannot be '1G'"),
        ({"size": 512.0}, "`size` cannot be 512.0"),
        ({"size": True}, "`size` cannot be True"),
        ({"size": 0}, "`size` cannot be 0"),
        ({"size": -512}, "`size` cannot be -512"),
        ({"size": 513}, "`size` cannot be 513"),
        ({"size": 2**63}, "`size` cannot be"),
        ({"rw": 1}, "`rw` cannot be 1"),
        ({"rw": None}, "`rw` cannot be None"),
        ({"save_on_stop": "yes"}, "`save_on_stop` cannot be 'yes'"),
        ({"source": 5}, "`source` cannot be 5"),
        ({"keep": 5}, "`keep` cannot be 5"),
        ({"on_crash": False}, "`on_crash` cannot be False"),
        ({"on_crash": "panic"}, "`on_crash` is one of resume, commit, revert, not 'panic'"),
        ({"source": "tpl/root"}, "choose save_on_stop or a source, not both"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    settings: dict[str, object], complaint: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        config.check_config("vm/a", config.volume_config("vm/a", **settings))
    assert caught.value.where == "vm/a"
    assert complaint in caught.value.reason


PERSISTENT = VolumeConfig(size=1 << 20)
DISPOSABLE = VolumeConfig(save_on_stop=False, source="tpl/root")


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        (PERSISTENT, {}, PERSISTENT),
        (PERSISTENT, {"rw": False}, VolumeConfig(size=1 << 20, rw=False)),
        (PERSISTENT, {"keep": "last 1"}, VolumeConfig(size=1 << 20, keep="last 1")),
        (VolumeConfig(keep="last 1"), {"keep": None}, VolumeConfig()),
        (PERSISTENT, {"on_crash": "commit"}, VolumeConfig(1 << 20, on_crash=CrashPolicy.COMMIT)),
        (
            DISPOSABLE,
            {"source": "tpl/other"},
            VolumeConfig(save_on_stop=False, source="tpl/other"),
        ),
    ],
)
def test_a_setting_can_be_changed(
    before: VolumeConfig, changes: dict[str, object], after: VolumeConfig
) -> None:
    assert config.change_config("vm/a", before, changes) == after


@pytest.mark.parametrize(
    ("before", "changes", "error", "complaint"),
    [
        (PERSISTENT, {"size": 512}, InvalidConfig, "`size` cannot be set; rw, keep"),
        (PERSISTENT, {"save_on_stop": False}, InvalidConfig, "`save_on_stop` cannot be set"),
        (PERSISTENT, {"where": "x"}, InvalidConfig, "`where` cannot be set"),
        (PERSISTENT, {"rw": "no"}, InvalidConfig, "`rw` cannot be 'no'"),
        (PERSISTENT, {"keep": ""}, InvalidPolicy, "it is empty"),
        (PERSISTENT, {"keep": "lots"}, InvalidPolicy, "there is no term `lots`"),
        (PERSISTENT, {"source": "tpl/root"}, InvalidConfig, "it is persistent"),
        (DISPOSABLE, {"source": None}, InvalidConfig, "a disposable volume cannot become volatile"),
        (DISPOSABLE, {"source": "../root"}, InvalidName, "`.` or `..`"),
        (DISPOSABLE, {"source": ""}, InvalidName, "it is empty"),
    ],
)
def test_a_change_that_cannot_be_is_refused(
    before: VolumeConfig, changes: dict[str, object], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error) as caught:
        config.change_config("vm/a", before, changes)
    assert complaint in caught.value.reason  # type: ignore[attr-defined]


# ---------------------------------------------------------------- `set VM/NAME KEY=VALUE`


@pytest.mark.parametrize(
    ("key", "text", "setting"),
    [
        ("rw", "yes", {"rw": True}),
        ("rw", "On", {"rw": True}),
        ("rw", "1", {"rw": True}),
        ("rw", "no", {"rw": False}),
        ("rw", "FALSE", {"rw": False}),
        ("keep", "last 2", {"keep": "last 2"}),
        ("keep", "", {"keep": None}),
        ("revisions_to_keep", "3", {"keep": "last 3"}),
        ("on_crash", "revert", {"on_crash": CrashPolicy.REVERT}),
        ("on_crash", "", {"on_crash": None}),
        ("source", "tpl/root", {"source": "tpl/root"}),
    ],
)
def test_a_setting_is_read_as_a_person_writes_it(
    key: str, text: str, setting: dict[str, object]
) -> None:
    assert read_setting("vm/a", key, text) == setting


@pytest.mark.parametrize(
    ("key", "text", "complaint"),
    [
        ("size", "1G", "there is no setting `size`; the settings are rw, keep"),
        ("", "", "there is no setting ``"),
        ("rw", "maybe", "`rw` cannot be 'maybe'"),
        ("rw", "", "`rw` cannot be ''"),
        ("on_crash", "ignore", "`on_crash` cannot be 'ignore'"),
        ("revisions_to_keep", "many", "`revisions_to_keep` cannot be 'many'"),
        ("revisions_to_keep", "", "`revisions_to_keep` cannot be ''"),
        ("revisions_to_keep", "9" * 5000, "`revisions_to_keep` cannot be"),
        ("revisions_to_keep", "-1", "`revisions_to_keep` is a whole number"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(key: str, text: str, complaint: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        read_setting("vm/a", key, text)
    assert complaint in caught.value.reason
