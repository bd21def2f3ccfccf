//! When a function runs by itself.

use std::fmt;
use std::str::FromStr;

/// A schedule of cron: minute, hour, day of the month, month, and day of the week, in UTC.
///
/// Each is `*`, a number, a range `1-5`, one of these with a step (`*/5`, `0-30/10`), or several with commas
/// between them. Sunday is 0 or 7. Where both days are restricted, one of them is enough, as in every cron.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    /// A bit for each number that is meant, in the order of the fields.
    fields: [u64; 5],
    /// Whether a day has to be both of the month and of the week that is meant: one of them may be any.
    both_days: bool,
}

/// Name, least and greatest number of each field.
const FIELDS: [(&str, u32, u32); 5] = [
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 7),
];

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSchedule(String);

impl fmt::Display for InvalidSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidSchedule {}

impl Schedule {
    /// The schedule as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the function runs in a minute of UTC. Days of the week count from Sunday, which is 0.
    #[must_use]
    pub fn is_due(&self, minute: u32, hour: u32, day: u32, month: u32, weekday: u32) -> bool {
        let has = |field: usize, number: u32| {
            self.fields[field].checked_shr(number).is_some_and(|bits| bits & 1 == 1)
        };
        let (of_month, of_week) = (has(2, day), has(4, weekday));
        let is_day = if self.both_days { of_month && of_week } else { of_month || of_week };
        has(0, minute) && has(1, hour) && has(3, month) && is_day
    }
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.len() != FIELDS.len() {
            return Err(InvalidSchedule(format!("has {} fields", words.len())));
        }
        let mut fields = [0; 5];
        for ((bits, word), (name, least, most)) in fields.iter_mut().zip(&words).zip(FIELDS) {
            *bits = parse_field(word, least, most)
                .ok_or_else(|| InvalidSchedule(format!("has no {name} of {least} to {most}")))?;
        }
        // Sunday under both of its numbers.
        fields[4] |= fields[4] >> 7 & 1;
        let both_days = words[2].starts_with('*') || words[4].starts_with('*');
        Ok(Self { text: text.to_owned(), fields, both_days })
    }
}

fn parse_field(text: &str, least: u32, most: u32) -> Option<u64> {
    let number = |text: &str| -> Option<u32> {
        let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        is_number.then(|| text.parse().ok())?
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (part, None),
        };
        let (first, last) = if range == "*" {
            (least, most)
        } else if let Some((first, last)) = range.split_once('-') {
            (number(first)?, number(last)?)
        } else {
            let first = number(range)?;
            (first, if step.is_some() { most } else { first })
        };
        if first < least || last > most || first > last || step == Some(0) {
            return None;
        }
        for number in (first..=last).step_by(step.unwrap_or(1) as usize) {
            bits |= 1 << number;
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn each_field_restricts_what_it_says() {
        let often = schedule("*/15 8-17 * * 1-5");
        assert!(often.is_due(45, 17, 31, 12, 5));
        assert!(!often.is_due(46, 17, 31, 12, 5));
        assert!(!often.is_due(45, 18, 31, 12, 5));
        assert!(!often.is_due(45, 17, 31, 12, 6));
        let minutes =
            |text| (0..60).filter(|at| schedule(text).is_due(*at, 0, 1, 1, 0)).collect::<Vec<_>>();
        assert_eq!(minutes("5,10-12,50/5 * * * *"), [5, 10, 11, 12, 50, 55]);
        assert_eq!(minutes("0-30/10 * * * *"), [0, 10, 20, 30]);
        assert_eq!(minutes("* * * * *").len(), 60);
    }

    #[test]
    fn one_of_two_restricted_days_is_enough() {
        let either = schedule("0 0 13 * 5");
        assert!(either.is_due(0, 0, 13, 1, 2));
        assert!(either.is_due(0, 0, 1, 1, 5));
        assert!(!either.is_due(0, 0, 1, 1, 2));
        assert!(!schedule("0 0 13 * *").is_due(0, 0, 1, 1, 5));
        assert!(schedule("0 0 * * 7").is_due(0, 0, 1, 1, 0));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for (text, expected) in [
            ("", "has 0 fields"),
            ("* * * *", "has 4 fields"),
            ("0 * * * * *", "has 6 fields"),
            ("60 * * * *", "has no minute of 0 to 59"),
            ("* -1 * * *", "has no hour of 0 to 23"),
            ("* * 0 * *", "has no day of the month of 1 to 31"),
            ("* * * jan *", "has no month of 1 to 12"),
            ("* * * * 8", "has no day of the week of 0 to 7"),
            ("*/0 * * * *", "has no minute of 0 to 59"),
            ("5-1 * * * *", "has no minute of 0 to 59"),
            ("1,,2 * * * *", "has no minute of 0 to 59"),
            ("99999999999 * * * *", "has no minute of 0 to 59"),
        ] {
            assert_eq!(text.parse::<Schedule>().unwrap_err().to_string(), expected, "{text}");
        }
    }
}
