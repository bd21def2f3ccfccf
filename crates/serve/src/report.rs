//! What is wrong with a manifest, and where.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::manifest::Manifest;

/// How many problems are told. The others are counted only: a file made of nothing else would need more memory
/// to say so than it has itself.
pub const MAX_PROBLEMS: usize = 1000;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in it, from 1.
    pub column: usize,
}

/// Whether a manifest can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but it hardly says what is meant.
    Warning,
}

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The manifest's file, as it was named.
    pub file: Arc<Path>,
    /// Where in it; `None` if it is about the file as a whole.
    pub position: Option<Position>,
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// One line: `app.toml:3:1: error: what it is; try: what to do`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.file.to_string_lossy()))?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {severity}: {}; try: {}", self.what, self.advice)
    }
}

/// What reading or checking a manifest has come to.
#[derive(Debug)]
pub struct Report {
    problems: Vec<Problem>,
    omitted: usize,
    manifest: Option<Box<Manifest>>,
}

impl Report {
    pub(crate) fn new(problems: Problems<'_>, file: &Path, manifest: Manifest) -> Self {
        let failed = problems.has_errors();
        let (problems, omitted) = problems.placed(file);
        Self { problems, omitted, manifest: (!failed).then(|| Box::new(manifest)) }
    }

    /// About a file of which nothing could be read.
    pub(crate) fn unreadable(problems: Problems<'_>, file: &Path) -> Self {
        let (problems, omitted) = problems.placed(file);
        Self { problems, omitted, manifest: None }
    }

    /// All problems, in the order of their places.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many problems there are beyond [`MAX_PROBLEMS`].
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Whether there are no errors. There can be warnings.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.manifest.is_some()
    }

    /// The manifest, unless there are errors.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_deref()
    }

    /// The manifest.
    ///
    /// # Errors
    /// This report, if it has errors.
    pub fn into_manifest(mut self) -> Result<Manifest, Self> {
        self.manifest.take().map(|manifest| *manifest).ok_or(self)
    }
}

/// A line for each problem.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.omitted {
            0 => Ok(()),
            more => writeln!(f, "and {more} more; try: correct these first"),
        }
    }
}

impl std::error::Error for Report {}

/// Problems while they are found.
pub(crate) struct Problems<'t> {
    text: &'t str,
    found: RefCell<Vec<Found>>,
    omitted: Cell<usize>,
    has_errors: Cell<bool>,
}

struct Found {
    kind: Kind,
    at: Option<usize>,
    what: String,
    advice: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Syntax,
    Error,
    /// An error that may be there only because a part of the file could not be read.
    Absence,
    Warning,
}

impl<'t> Problems<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self {
            text,
            found: RefCell::default(),
            omitted: Cell::default(),
            has_errors: Cell::default(),
        }
    }

    fn add(
        &self,
        kind: Kind,
        at: Option<usize>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.has_errors.set(self.has_errors.get() || kind != Kind::Warning);
        let mut found = self.found.borrow_mut();
        if found.len() < MAX_PROBLEMS {
            found.push(Found { kind, at, what: what.into(), advice: advice.into() });
        } else {
            self.omitted.set(self.omitted.get() + 1);
        }
    }

    /// Whether one of those so far is an error.
    pub(crate) fn has_errors(&self) -> bool {
        self.has_errors.get()
    }

    /// Whether further problems are counted only.
    pub(crate) fn is_full(&self) -> bool {
        self.found.borrow().len() >= MAX_PROBLEMS
    }

    pub(crate) fn file(&self, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Kind::Error, None, what, advice);
    }

    pub(crate) fn syntax(
        &self,
        at: Option<usize>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Kind::Syntax, at, what, advice);
    }

    pub(crate) fn error(&self, at: usize, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Kind::Error, Some(at), what, advice);
    }

    pub(crate) fn absence(&self, at: usize, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Kind::Absence, Some(at), what, advice);
    }

    pub(crate) fn warning(&self, at: usize, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Kind::Warning, Some(at), what, advice);
    }

    /// The problems with their lines and columns, and how many more there are.
    ///
    /// Where the syntax is wrong, the rest of that line was skipped. Problems that only follow from this are left
    /// out: others on the same line, and that something is missing.
    fn placed(self, file: &Path) -> (Vec<Problem>, usize) {
        let mut found = self.found.into_inner();
        found.sort_by_key(|found| found.at);
        // The parser may say at each level of nesting that the file ends too early.
        found.dedup_by(|a, b| (a.at, &a.what) == (b.at, &b.what));
        let mut places = Places { text: self.text, at: 0, line: 1, column: 1 };
        let found: Vec<_> =
            found.into_iter().map(|one| (one.at.map(|at| places.find(at)), one)).collect();
        let of_syntax = found.iter().filter(|(_, found)| found.kind == Kind::Syntax);
        let broken: BTreeSet<_> =
            of_syntax.map(|(place, _)| place.map(|place| place.line)).collect();
        let follows = |place: Option<Position>, kind| match kind {
            Kind::Syntax => false,
            Kind::Error => broken.contains(&place.map(|place| place.line)),
            Kind::Absence | Kind::Warning => !broken.is_empty(),
        };
        let file: Arc<Path> = file.into();
        let told = found.into_iter().filter(|(place, found)| !follows(*place, found.kind));
        let problems = told.map(|(position, Found { kind, what, advice, .. })| Problem {
            file: Arc::clone(&file),
            position,
            severity: if kind == Kind::Warning { Severity::Warning } else { Severity::Error },
            what,
            advice,
        });
        (problems.collect(), self.omitted.get())
    }
}

/// Finds lines and columns of ascending places in one pass: a file can be a single line, with as many problems.
struct Places<'t> {
    text: &'t str,
    at: usize,
    line: usize,
    column: usize,
}

impl Places<'_> {
    fn find(&mut self, at: usize) -> Position {
        for (start, c) in self.text[self.at..].char_indices() {
            if self.at + start >= at {
                self.at += start;
                return Position { line: self.line, column: self.column };
            }
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else if c != '\u{feff}' {
                // Other than the mark that some editors put before everything, and do not show.
                self.column += 1;
            }
        }
        self.at = self.text.len();
        Position { line: self.line, column: self.column }
    }
}

/// A text of the manifest in quotes, with what a terminal might obey escaped, and cut if it is long.
pub(crate) fn quoted(text: &str) -> String {
    const MAX: usize = 60;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn printable(text: &str) -> String {
    let escape =
        |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}
