//! Tables of a manifest, read key by key.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::nearest::nearest;
use super::sections::{SECTIONS, Section, Use};
use super::values;
use crate::report::{Problems, quoted};
use crate::units;

/// A table, of which it is known which keys it may have.
pub(super) struct Table<'d> {
    pub(super) problems: &'d Problems<'d>,
    section: &'static Section,
    /// What messages call it.
    pub(super) name: String,
    table: &'d DeTable<'d>,
    /// Where it begins.
    pub(super) at: usize,
}

/// A string and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Text<'d> {
    pub(super) text: &'d str,
    pub(super) at: usize,
}

pub(super) type Value<'d> = Spanned<DeValue<'d>>;

impl<'d> Table<'d> {
    /// A table. What is wrong with its keys is told at once.
    pub(super) fn new(
        problems: &'d Problems<'d>,
        section: &'static Section,
        name: impl Into<String>,
        table: &'d DeTable<'d>,
        at: usize,
    ) -> Self {
        let table = Self { problems, section, name: name.into(), table, at };
        for (key, _) in table.entries() {
            table.check_key(key);
        }
        table
    }

    fn check_key(&self, key: Text<'d>) {
        let name = &self.name;
        match self.section.key(key.text).map(|key| &key.used) {
            Some(Use::Read { .. } | Use::Ignored) => {}
            Some(Use::Refused { why, advice }) => {
                self.problems.error(key.at, format!("{} in {name}: {why}", key.text), *advice);
            }
            // Looking for what may be meant takes time, and nobody would read it.
            None if self.problems.is_full() => self.problems.error(key.at, "", ""),
            None => {
                let read =
                    || self.section.keys.iter().filter(|key| key.is_read()).map(|key| key.name);
                let advice = if let Some(known) = nearest(key.text, read()) {
                    known.to_owned()
                } else if let Some(other) = SECTIONS
                    .iter()
                    .find(|other| other.name.starts_with('[') && other.reads(key.text))
                {
                    format!("{}, which has such a key", other.name)
                } else {
                    format!("one of {}", read().collect::<Vec<_>>().join(", "))
                };
                self.problems.error(
                    key.at,
                    format!("{name} has no key {}", quoted(key.text)),
                    advice,
                );
            }
        }
    }

    /// All keys and values, known or not.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Text<'d>, &'d Value<'d>)> + use<'d> {
        self.table
            .iter()
            .map(|(key, value)| (Text { text: key.get_ref(), at: key.span().start }, value))
    }

    /// The value of a key. It has to be one that the section reads.
    pub(super) fn get(&self, key: &str) -> Option<&'d Value<'d>> {
        debug_assert!(self.section.reads(key), "{key} of {}", self.section.name);
        self.table.get(key)
    }

    /// Where the first of these keys is that is there.
    pub(super) fn place_of(&self, keys: &[&str]) -> Option<usize> {
        keys.iter().find_map(|key| self.get(key)).map(|value| value.span().start)
    }

    /// Says that the value of a key is of another type.
    pub(super) fn wrong_type(&self, key: &str, value: &Value<'_>) {
        self.wrong(key, value.span().start, format!("is {}", type_of(value)));
    }

    /// Says that a string is none of those that the key takes.
    pub(super) fn wrong_value(&self, key: &str, text: &str, at: usize) {
        self.wrong(key, at, format!("is {}", quoted(text)));
    }

    /// Says that a value, or a part of it, is not what the key takes.
    fn wrong(&self, key: &str, at: usize, what: impl Into<String>) {
        let Some(Use::Read { kind, example, .. }) = self.section.key(key).map(|key| &key.used)
        else {
            return;
        };
        let what = format!("{key} in {} {}; it takes {kind}", self.name, what.into());
        self.problems.error(at, what, *example);
    }

    /// Says that a key is missing.
    pub(super) fn missing(&self, key: &str) {
        if let Some(Use::Read { example, .. }) = self.section.key(key).map(|key| &key.used) {
            self.problems.absence(self.at, format!("{} has no {key}", self.name), *example);
        }
    }

    /// The value of a key and where it stands. One of another type is told.
    fn of_type<T>(
        &self,
        key: &str,
        as_type: impl FnOnce(&'d DeValue<'d>) -> Option<T>,
    ) -> Option<(T, usize)> {
        let value = self.get(key)?;
        let found = as_type(value.get_ref());
        if found.is_none() {
            self.wrong_type(key, value);
        }
        Some((found?, value.span().start))
    }

    /// A string.
    pub(super) fn string(&self, key: &str) -> Option<Text<'d>> {
        let (text, at) = self.of_type(key, DeValue::as_str)?;
        Some(Text { text, at })
    }

    /// A string that has to be there.
    pub(super) fn required_string(&self, key: &str) -> Option<Text<'d>> {
        if self.get(key).is_none() {
            self.missing(key);
        }
        self.string(key)
    }

    /// The name of an application or a tenant.
    pub(super) fn name_of(&self, key: &str) -> Option<&'d str> {
        let Text { text, at } = self.string(key)?;
        let Some(problem) = values::name_problem(text) else { return Some(text) };
        self.problems.error(
            at,
            format!("{key} in {} is {}, which {problem}", self.name, quoted(text)),
            "letters, digits, -, _ and . after a letter or digit",
        );
        None
    }

    /// A list.
    pub(super) fn list(&self, key: &str) -> Option<&'d DeArray<'d>> {
        self.of_type(key, DeValue::as_array).map(|(list, _)| list)
    }

    /// A list of strings; of another one, the strings in it.
    pub(super) fn strings(&self, key: &str) -> Vec<Text<'d>> {
        let mut strings = Vec::new();
        for value in self.list(key).into_iter().flatten() {
            match value.get_ref() {
                DeValue::String(text) => strings.push(Text { text, at: value.span().start }),
                _ => self.wrong(key, value.span().start, format!("has {} in it", type_of(value))),
            }
        }
        strings
    }

    /// A table within this one.
    pub(super) fn table(
        &self,
        key: &str,
        section: &'static Section,
        name: impl Into<String>,
    ) -> Option<Table<'d>> {
        let (table, at) = self.of_type(key, DeValue::as_table)?;
        Some(Table::new(self.problems, section, name, table, at))
    }

    /// A table whose keys are names that the manifest chooses.
    pub(super) fn names(&self, key: &str) -> Option<&'d DeTable<'d>> {
        self.of_type(key, DeValue::as_table).map(|(table, _)| table)
    }

    /// A size of at least `least` bytes, put into `slot`.
    pub(super) fn size(&self, key: &str, least: u64, slot: &mut u64) {
        let Some(value) = self.get(key) else { return };
        let read = match value.get_ref() {
            DeValue::String(text) => units::size(text).ok(),
            DeValue::Integer(number) => values::number(number),
            _ => return self.wrong_type(key, value),
        };
        if let Some(bytes) = self.at_least(key, value, read, least) {
            *slot = bytes;
        }
    }

    /// A number of at least `least`, put into `slot`.
    pub(super) fn count<N: TryFrom<u64>>(&self, key: &str, least: u64, slot: &mut N) {
        let Some(value) = self.get(key) else { return };
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_type(key, value);
        };
        let Some(number) = self.at_least(key, value, values::number(number), least) else { return };
        match N::try_from(number) {
            Ok(number) => *slot = number,
            Err(_) => self.wrong(key, value.span().start, "is more than 32 bits can say"),
        }
    }

    fn at_least(&self, key: &str, value: &Value<'_>, read: Option<u64>, least: u64) -> Option<u64> {
        let shown = match value.get_ref() {
            DeValue::String(text) => quoted(text),
            DeValue::Integer(number) => number.to_string(),
            _ => String::new(),
        };
        match read {
            Some(number) if number >= least => return Some(number),
            Some(_) => {
                self.wrong(key, value.span().start, format!("is {shown}, less than {least}"))
            }
            None => self.wrong(key, value.span().start, format!("is {shown}")),
        }
        None
    }

    /// A time, or `none`, put into `slot`.
    pub(super) fn time(&self, key: &str, slot: &mut Option<Duration>) {
        let Some(Text { text, at }) = self.string(key) else { return };
        match units::time(text) {
            Ok(time) => *slot = time,
            Err(_) => self.wrong_value(key, text, at),
        }
    }
}

/// What a value is, with its article.
pub(super) fn type_of(value: &Value<'_>) -> String {
    let name = value.get_ref().type_str();
    let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {name}")
}
