"""Retention: which revisions a line keeps, and why. Moments are passed in; no clock is read."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from lifecycle import InvalidPolicy, policies, terms


@dataclass(frozen=True)
class Revision:
    number: int
    at: datetime
    pinned: bool = False
    current: bool = False
    needed: bool = False


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def revisions(*times: str) -> list[Revision]:
    """Return revisions 1, 2, 3… made at these times."""
    return [Revision(number, moment(text)) for number, text in enumerate(times, start=1)]


def reasons(plan: policies.Plan) -> dict[int, tuple[str, ...]]:
    return {verdict.number: verdict.reasons for verdict in plan.verdicts if verdict.keep}


NOW = moment("2026-03-20 12:00")

HISTORY = revisions(
    "2023-06-01 12:00",  # 1
    "2024-12-30 12:00",  # 2: a Monday, and so in ISO week 1 of 2025
    "2025-01-02 12:00",  # 3: the same week, another year
    "2026-01-31 12:00",  # 4
    "2026-03-17 23:00",  # 5
    "2026-03-18 09:10",  # 6
    "2026-03-18 09:50",  # 7
    "2026-03-20 11:00",  # 8
)


# ---------------------------------------------------------------- each term


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("last 0", {}),
        ("last 2", {8: "last 1", 7: "last 2"}),
        ("last 100", {9 - place: f"last {place}" for place in range(1, 9)}),
        (
            "hourly 3",
            {
                8: "hourly 2026-03-20 11:00 +0000",
                7: "hourly 2026-03-18 09:00 +0000",
                5: "hourly 2026-03-17 23:00 +0000",
            },
        ),
        ("daily 0", {}),
        ("daily 2", {8: "daily 2026-03-20", 7: "daily 2026-03-18"}),
        (
            "daily 4",  # the 19th holds no revision and takes no slot
            {
                8: "daily 2026-03-20",
                7: "daily 2026-03-18",
                5: "daily 2026-03-17",
                4: "daily 2026-01-31",
            },
        ),
        (
            "weekly 4",  # 2 and 3 are of one week, though of two years
            {
                8: "weekly 2026 week 12",
                4: "weekly 2026 week 05",
                3: "weekly 2025 week 01",
                1: "weekly 2023 week 22",
            },
        ),
        (
            "monthly 4",
            {
                8: "monthly 2026-03",
                4: "monthly 2026-01",
                3: "monthly 2025-01",
                2: "monthly 2024-12",
            },
        ),
        (
            "yearly 9",
            {8: "yearly 2026", 3: "yearly 2025", 2: "yearly 2024", 1: "yearly 2023"},
        ),
        ("within 2d", {8: "within 2d"}),
        ("within 2d3h", {8: "within 2d3h", 7: "within 2d3h", 6: "within 2d3h"}),
        (
            "within 2d1h50min of the newest",  # to the minute
            dict.fromkeys((6, 7, 8), "within 2d1h50min of the newest"),
        ),
        (
            "within 2d1h49min of the newest",
            dict.fromkeys((7, 8), "within 2d1h49min of the newest"),
        ),
        ("within 0h of the newest", {8: "within 0h of the newest"}),
        ("all", dict.fromkeys(range(1, 9), "all")),
    ],
)
def test_each_term_keeps_the_newest_of_what_it_counts_and_says_why(
    line: str, kept: dict[int, str]
) -> None:
    found = policies.parse(line).plan(HISTORY, NOW)
    assert reasons(found) == {number: (reason,) for number, reason in kept.items()}
    assert found.keep == tuple(sorted(kept))
    assert found.remove == tuple(sorted(set(range(1, 9)) - set(kept)))


def test_what_no_term_keeps_goes_and_the_reason_is_the_line() -> None:
    found = policies.parse("last 1, daily 1").plan(HISTORY[6:], NOW)
    assert found.verdicts == (
        policies.Verdict(7, keep=False, reasons=("not in `last 1, daily 1`",)),
        policies.Verdict(8, keep=True, reasons=("last 1", "daily 2026-03-20")),
    )


def test_a_line_is_a_union_and_keep_wins() -> None:
    found = policies.parse("last 0, 1 daily, monthly 2, within 3d").plan(HISTORY, NOW)
    assert reasons(found) == {
        4: ("monthly 2026-01",),
        5: ("within 3d",),
        6: ("within 3d",),
        7: ("within 3d",),
        8: ("daily 2026-03-20", "monthly 2026-03", "within 3d"),
    }


@pytest.mark.parametrize("line", ["last 0", "last 3, 2 daily", "all", "within 1h"])
def test_a_volume_without_revisions_has_an_empty_plan(line: str) -> None:
    found = policies.parse(line).plan([], NOW)
    assert (found.verdicts, found.keep, found.remove) == ((), (), ())


def test_the_order_in_which_revisions_are_given_does_not_matter() -> None:
    line = "last 2, 3 daily, 2 monthly"
    assert policies.parse(line).plan(HISTORY[::-1], NOW) == policies.parse(line).plan(HISTORY, NOW)


def test_planning_again_after_pruning_removes_nothing_more() -> None:
    line = "last 2, 2 hourly, 3 daily, 2 weekly, 3 monthly, 2 yearly"
    kept = policies.parse(line).plan(HISTORY, NOW).keep
    left = [revision for revision in HISTORY if revision.number in kept]
    assert policies.parse(line).plan(left, NOW).keep == kept


# ---------------------------------------------------------------- how a line is written


@pytest.mark.parametrize(
    ("written", "same_as"),
    [
        ("7 daily", "daily 7"),
        ("5 last", "last 5"),
        ("  last   5 ,24 hourly,\t7 daily ", "last 5, hourly 24, daily 7"),
        ("within 90min", "within 1h30min"),
        ("within 36h", "within 1d12h"),
        ("within 1w3d", "within 10d"),
        ("within  1w3d   of the  newest", "within 10d of the newest"),
        ("last 05", "last 5"),
    ],
)
def test_two_ways_to_write_the_same(written: str, same_as: str) -> None:
    first, second = (policies.parse(line).plan(HISTORY, NOW) for line in (written, same_as))
    assert first.keep == second.keep


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "it is empty; to keep no revisions, say `last 0`"),
        (" \t\n", "it is empty; to keep no revisions, say `last 0`"),
        (None, "it is empty; to keep no revisions, say `last 0`"),
        (5, "it is empty; to keep no revisions, say `last 0`"),
        (",", "it has an empty term"),
        ("last 5,", "it has an empty term"),
        ("last 5,, 7 daily", "it has an empty term"),
        ("last", "`last` needs a count"),
        ("last -1", "`last -1` needs a count"),
        ("last 1.5", "`last 1.5` needs a count"),
        ("last five", "`last five` needs a count"),
        ("last 5 3", "`last 5 3` is no single term"),
        ("5 last 3", "`5 last 3` is no single term"),
        ("last 5 7 daily", "`last 5 7 daily` is no single term: write one count with each word"),
        ("7 daily last 5", "`7 daily last 5` is no single term"),
        ("last 1, daily 5 weekly 3", "`daily 5 weekly 3` is no single term"),
        ("within 2d last 5", "and commas between (`last 5, 7 daily`)"),
        ("within 2d of the newest 7 daily", "is no single term"),
        ("last ٣", "`last ٣` needs a count"),
        ("٣ daily", "`٣ daily` needs a count"),
        ("last " + "9" * 5000, "needs a count"),
        ("daily", "`daily` needs a count"),
        ("within", "needs a duration of min, h, d, w"),
        ("within 2", "`within 2` needs a duration"),
        ("within 2 d", "`within 2 d` needs a duration"),
        ("within 2m", "`within 2m` needs a duration"),
        ("within -2d", "`within -2d` needs a duration"),
        ("within of the newest", "`within of the newest` needs a duration"),
        ("within 2d of newest", "or `within 2d of the newest`"),
        ("within 2d of the oldest", "`within 2d of the oldest` needs a duration"),
        ("within 2d of the newest of the newest", "needs a duration"),
        ("of the newest", "there is no term `of`"),
        ("within 9999999999d of the newest", "is longer than can be counted"),
        ("within ٢d", "`within ٢d` needs a duration"),
        ("within 9999999999d", "is longer than can be counted"),
        ("within " + "9" * 5000 + "d", "is longer than can be counted"),
        ("5", "there is no term `5`"),
        ("Last 5", "there is no term `Last`"),
        ("latest 5", "there is no term `latest`"),
        ("last 5; 7 daily", "`last 5; 7 daily` is no single term"),
    ],
)
def test_a_bad_line_is_refused_with_the_reason(line: object, complaint: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        policies.check(line)
    assert complaint in caught.value.reason
    assert caught.value.policy == line
    assert str(caught.value).startswith(ascii(line)[:50])


def test_an_unknown_term_is_answered_with_those_there_are_and_where_others_come_from() -> None:
    with pytest.raises(InvalidPolicy) as caught:
        policies.check("last 1, fortnightly 2")
    for word in (
        "`fortnightly`",
        "last",
        *policies.PERIODS,
        "within",
        "all",
        terms.TERMS.entry_points,
    ):
        assert word in caught.value.reason


@pytest.mark.parametrize("line", ["all 5", "5 all"])
def test_a_count_for_all_is_not_answered_with_there_being_no_such_term(line: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        policies.parse(line)
    assert "there is no term" not in caught.value.reason


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "Europe", "../UTC", "/etc/passwd", "a\0b", "\ud800", "x" * 5000]
)
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidPolicy, match="there is no time zone of that name"):
        policies.parse("last 5", zone)


# ---------------------------------------------------------------- what is never a candidate


@pytest.mark.parametrize(
    ("mark", "reason"),
    [("pinned", "pinned"), ("current", "current"), ("needed", "needed by other images")],
)
@pytest.mark.parametrize("line", ["last 2", "daily 2", "yearly 1, last 2"])
def test_protected_revisions_stay_and_take_no_slot(mark: str, reason: str, line: str) -> None:
    history = revisions("2026-03-16", "2026-03-17", "2026-03-18", "2026-03-19")
    history[3] = Revision(4, history[3].at, **{mark: True})
    found = policies.parse(line).plan(history, NOW)
    assert found.keep == (2, 3, 4)
    assert reasons(found)[4] == (reason,)


def test_a_revision_from_the_future_stays_and_takes_no_slot() -> None:
    history = revisions("2026-03-18", "2026-03-19", "2026-03-20 12:00:00", "2026-03-20 12:00:01")
    found = policies.parse("last 1, within 1h").plan(history, NOW)
    assert reasons(found) == {3: ("last 1", "within 1h"), 4: ("from the future",)}


def test_last_0_keeps_none_but_the_protected() -> None:
    history = [
        Revision(1, moment("2026-03-01"), pinned=True, current=True),
        Revision(2, moment("2026-03-02")),
        Revision(3, moment("2026-03-03"), needed=True),
        Revision(4, moment("2030-01-01")),
    ]
    assert reasons(policies.parse("last 0").plan(history, NOW)) == {
        1: ("pinned", "current"),
        3: ("needed by other images",),
        4: ("from the future",),
    }


# ---------------------------------------------------------------- clocks


def test_order_is_by_number_when_the_clock_ran_backwards() -> None:
    history = revisions("2026-03-19 10:00", "2026-03-01 08:00", "2026-03-01 07:00")
    assert reasons(policies.parse("last 1").plan(history, NOW)) == {3: ("last 1",)}
    assert reasons(policies.parse("daily 1").plan(history, NOW)) == {3: ("daily 2026-03-01",)}
    assert reasons(policies.parse("daily 2").plan(history, NOW)) == {
        1: ("daily 2026-03-19",),
        3: ("daily 2026-03-01",),
    }


def test_a_period_that_the_clock_came_back_to_is_one_slot() -> None:
    history = revisions("2026-03-10", "2026-03-11", "2026-03-10 05:00", "2026-03-12")
    assert policies.parse("daily 2").plan(history, NOW).keep == (3, 4)
    assert policies.parse("daily 3").plan(history, NOW).keep == (2, 3, 4)


@pytest.mark.parametrize("span", [timedelta(hours=36), timedelta(days=1, hours=12)])
def test_within_keeps_what_is_exactly_as_old(span: timedelta) -> None:
    second = timedelta(seconds=1)
    history = [Revision(1, NOW - span - second), Revision(2, NOW - span), Revision(3, NOW)]
    assert policies.parse("within 36h").plan(history, NOW).keep == (2, 3)


def test_within_0_keeps_what_was_made_this_moment() -> None:
    history = revisions("2026-03-20 11:59:59", "2026-03-20 12:00:00")
    assert policies.parse("within 0h").plan(history, NOW).keep == (2,)


IDLE = ("2026-01-01", "2026-01-08 12:00", "2026-01-09 12:00", "2026-01-10 12:00")


@pytest.mark.parametrize(
    ("line", "now", "kept"),
    [
        ("within 2d", "2026-01-10 12:00", (2, 3, 4)),
        ("within 2d", "2026-01-12 12:00", (4,)),
        ("within 2d", "2026-01-12 12:00:01", ()),
        ("within 2d", "2026-06-01", ()),
        ("within 2d of the newest", "2026-01-10 12:00", (2, 3, 4)),
        ("within 2d of the newest", "2026-06-01", (2, 3, 4)),
        ("within 47h59min of the newest", "2026-06-01", (3, 4)),
        ("within 1d of the newest, last 3", "2036-01-01", (2, 3, 4)),
        ("within 9d12h of the newest", "2036-01-01", (1, 2, 3, 4)),
    ],
)
def test_what_is_idle_loses_all_unless_it_is_counted_from_the_newest(
    line: str, now: str, kept: tuple[int, ...]
) -> None:
    assert policies.parse(line).plan(revisions(*IDLE), moment(now)).keep == kept


@pytest.mark.parametrize("mark", ["pinned", "current", "needed"])
def test_the_newest_is_the_newest_of_those_that_are_no_exception(mark: str) -> None:
    exception = Revision(5, moment("2026-03-01"), **{mark: True})
    history = [*revisions(*IDLE), exception, Revision(6, moment("2030-01-01"))]
    found = policies.parse("within 1d of the newest").plan(history, NOW)
    assert found.keep == (3, 4, 5, 6)


def test_the_newest_is_that_of_the_highest_number_when_the_clock_ran_backwards() -> None:
    # what bears a later time than the newest is kept too: in doubt nothing is removed
    history = revisions("2026-01-01", "2026-03-05", "2026-02-01", "2026-02-02")
    assert policies.parse("within 1d of the newest").plan(history, NOW).keep == (2, 3, 4)


def test_slots_that_are_not_filled_do_not_keep_the_oldest() -> None:
    history = revisions("2026-03-18 08:00", "2026-03-18 09:00", "2026-03-18 10:00")
    assert policies.parse("7 daily, 12 monthly").plan(history, NOW).keep == (3,)


@pytest.mark.parametrize(
    ("zone", "kept"),
    [
        ("UTC", {2: "daily 2026-03-10", 3: "daily 2026-03-11"}),
        ("Europe/Berlin", {1: "daily 2026-03-10", 3: "daily 2026-03-11"}),
    ],
)
def test_a_day_ends_at_midnight_of_the_time_zone(zone: str, kept: dict[int, str]) -> None:
    # 23:30 UTC is half past midnight of the next day in Berlin
    history = revisions("2026-03-10 22:30", "2026-03-10 23:30", "2026-03-11 09:00")
    found = policies.parse("daily 2", zone).plan(history, NOW)
    assert reasons(found) == {number: (reason,) for number, reason in kept.items()}


def test_now_may_be_of_any_zone() -> None:
    berlin = NOW.astimezone(policies.time_zone("Europe/Berlin"))
    line = "last 1, 2 daily, within 3d"
    assert policies.parse(line).plan(HISTORY, berlin) == policies.parse(line).plan(HISTORY, NOW)


def test_the_day_on_which_summer_time_begins_has_23_hours() -> None:
    # 2026-03-29 in Berlin is from 23:00 UTC of the 28th to 22:00 UTC: at 02:00 it becomes 03:00
    history = revisions(
        "2026-03-28 22:59", "2026-03-28 23:00", "2026-03-29 21:59", "2026-03-29 22:00"
    )
    found = policies.parse("daily 9", "Europe/Berlin").plan(history, moment("2026-04-01"))
    assert reasons(found) == {
        1: ("daily 2026-03-28",),
        3: ("daily 2026-03-29",),
        4: ("daily 2026-03-30",),
    }


def test_the_hour_that_comes_twice_when_summer_time_ends_is_two_hours() -> None:
    history = revisions("2026-10-25 00:10", "2026-10-25 00:50", "2026-10-25 01:10")
    found = policies.parse("hourly 9", "Europe/Berlin").plan(history, moment("2026-11-01"))
    assert reasons(found) == {
        2: ("hourly 2026-10-25 02:00 +0200",),
        3: ("hourly 2026-10-25 02:00 +0100",),
    }


def test_within_counts_hours_that_passed_not_hours_of_the_wall_clock() -> None:
    # noon to noon over the change to summer time is 23 hours
    history = revisions("2026-03-28 11:00")
    noon = moment("2026-03-29 10:00")
    assert policies.parse("within 23h", "Europe/Berlin").plan(history, noon).keep == (1,)
    assert policies.parse("within 22h", "Europe/Berlin").plan(history, noon).keep == ()
