//! When a rule holds: times of the week in a time zone. Pure.

use base::time::Timestamp;
use jiff::{civil::Weekday, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::RuleError;

/// When a rule holds. A recording that carries no date has no time of day: there it always does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Name in the IANA time zone database, such as `Europe/Berlin`. Default: `UTC`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Such as `["mon-fri 18:00-06:00", "sat,sun 00:00-24:00"]`: days on which a time begins, then the time. One that ends
    /// before it begins ends on the next day.
    pub times: Vec<String>,
}

fn utc() -> String {
    "UTC".into()
}

/// A schedule, read.
#[derive(Debug, Clone)]
pub(super) struct Hours {
    zone: TimeZone,
    /// Days from Monday on which it begins; begin and end in minutes of the day, the end perhaps on the next day.
    times: Vec<([bool; 7], u32, u32)>,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const A_DAY: u32 = 24 * 60;

impl Hours {
    pub(super) fn read(schedule: &Schedule) -> Result<Self, RuleError> {
        let zone = TimeZone::get(&schedule.time_zone).map_err(|_| {
            let what = format!("no time zone is called `{}`: write one such as `Europe/Berlin`", schedule.time_zone);
            RuleError::new("schedule.time_zone", what)
        })?;
        if schedule.times.is_empty() {
            return Err(RuleError::new("schedule.times", "is empty: the rule would never hold"));
        }
        let times = schedule.times.iter().map(|text| {
            read_time(text).ok_or_else(|| {
                let what = format!("`{text}` cannot be read: write `mon-fri 18:00-06:00` or `sat,sun 00:00-24:00`");
                RuleError::new("schedule.times", what)
            })
        });
        Ok(Self { zone, times: times.collect::<Result<_, _>>()? })
    }

    pub(super) fn holds(&self, at: Timestamp) -> bool {
        let local = at.to_zoned(self.zone.clone());
        let minute = u32::from(local.hour().unsigned_abs()) * 60 + u32::from(local.minute().unsigned_abs());
        let today = usize::from(weekday(local.weekday()));
        let yesterday = (today + 6) % 7;
        self.times.iter().any(|(days, begin, end)| {
            let (began_today, began_yesterday) = (days[today], days[yesterday]);
            (began_today && (*begin..*end).contains(&minute))
                || (began_yesterday && *end > A_DAY && minute < end - A_DAY)
        })
    }
}

fn weekday(day: Weekday) -> u8 {
    day.to_monday_zero_offset().unsigned_abs()
}

fn read_time(text: &str) -> Option<([bool; 7], u32, u32)> {
    let (days, hours) = text.trim().split_once(' ')?;
    let mut on = [false; 7];
    for part in days.split(',') {
        let day = |name: &str| DAYS.iter().position(|day| name.trim().eq_ignore_ascii_case(day));
        match part.split_once('-') {
            None => on[day(part)?] = true,
            Some((from, to)) => {
                let (from, to) = (day(from)?, day(to)?);
                let n = (to + 7 - from) % 7;
                (0..=n).for_each(|step| on[(from + step) % 7] = true);
            }
        }
    }
    let (begin, end) = hours.trim().split_once('-')?;
    let (begin, end) = (read_minute(begin)?, read_minute(end)?);
    let end = if end <= begin { end + A_DAY } else { end };
    (begin < A_DAY).then_some((on, begin, end))
}

fn read_minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60 && hour * 60 + minute <= A_DAY).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(times: &[&str]) -> Result<Hours, RuleError> {
        let times = times.iter().map(|&text| text.to_owned()).collect();
        Hours::read(&Schedule { time_zone: "Europe/Berlin".into(), times })
    }

    #[test]
    fn times_of_the_week() {
        let check = |times: &[&str], at: &str, expected: bool| {
            let at: Timestamp = at.parse().expect("a time");
            assert_eq!(hours(times).expect("good").holds(at), expected, "{times:?} at {at}");
        };
        // A Monday; Berlin is two hours ahead in June.
        check(&["mon-fri 08:00-18:00"], "2026-06-01T06:00:00Z", true);
        check(&["mon-fri 08:00-18:00"], "2026-06-01T05:59:59Z", false);
        check(&["mon-fri 08:00-18:00"], "2026-06-01T16:00:00Z", false);
        check(&["sat,sun 00:00-24:00"], "2026-06-01T10:00:00Z", false);
        check(&["sat,sun 00:00-24:00"], "2026-06-06T21:59:00Z", true);
        // Over midnight: begun on Friday, it ends on Saturday morning.
        check(&["fri 22:00-06:00"], "2026-06-06T03:59:00Z", true);
        check(&["fri 22:00-06:00"], "2026-06-06T04:00:00Z", false);
        check(&["fri 22:00-06:00"], "2026-06-05T03:00:00Z", false);
        // Over the end of the week, and in winter, one hour ahead.
        check(&["sat-mon 23:00-01:00"], "2026-01-12T22:30:00Z", true);
        check(&["sat-mon 23:00-01:00"], "2026-01-12T23:30:00Z", true);
        check(&["sat-mon 23:00-01:00"], "2026-01-10T23:30:00Z", true);
        check(&["sat-mon 23:00-01:00"], "2026-01-13T22:30:00Z", false);
    }

    #[test]
    fn what_cannot_be_read() {
        for bad in ["", "mon", "mon 8-18", "moon 08:00-18:00", "mon 25:00-26:00", "mon 24:00-06:00", "mon 08:60-09:00"]
        {
            assert!(hours(&[bad]).expect_err(bad).what.contains("cannot be read"), "{bad}");
        }
        assert!(hours(&[]).is_err());
        let bad = Schedule { time_zone: "Mars/Olympus".into(), times: vec!["mon 00:00-24:00".into()] };
        assert_eq!(Hours::read(&bad).expect_err("no such zone").key, "schedule.time_zone");
    }
}
