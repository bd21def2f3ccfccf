//! One route.

use std::fmt;
use std::str::FromStr;

/// How many parameters a route may have. A search may have to try both ways at each of them.
pub const MAX_PARAMETERS: usize = 8;

/// How many bytes a route may have.
pub const MAX_ROUTE: usize = 1024;

/// A pattern that paths of requests match or do not.
///
/// It begins with a slash, and what is between slashes is a segment:
///
/// | segment | matches |
/// |---|---|
/// | `name` | itself, byte by byte |
/// | `:name` | any one segment that is not empty; the name is what its value is called |
/// | `...`, as the last one | nothing, or a slash and all that follows |
///
/// A slash at the end counts: `/hello/` and `/hello` are two routes, of which each matches one path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    Name(Box<str>),
    Parameter(Box<str>),
    Rest,
}

/// Why a text is no route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRoute {
    /// What is wrong with it.
    pub what: String,
    /// What to write instead.
    pub advice: String,
}

impl fmt::Display for InvalidRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the route {}; try: {}", self.what, self.advice)
    }
}

impl std::error::Error for InvalidRoute {}

impl Route {
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The route as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it ends with `...`.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.segments.last() == Some(&Segment::Rest)
    }

    /// The route without `/...`, which of `/...` leaves nothing.
    #[must_use]
    pub fn without_rest(&self) -> &str {
        if self.has_rest() { &self.text[..self.text.len() - "/...".len()] } else { &self.text }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Route {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        let Some(rest) = text.strip_prefix('/') else {
            return invalid("does not begin with a slash", "\"/hello\" or \"/hello/...\"");
        };
        if text.len() > MAX_ROUTE {
            return invalid(format!("has more than {MAX_ROUTE} bytes"), "a shorter one");
        }
        check_characters(text)?;
        let count = rest.split('/').count();
        let mut segments = Vec::with_capacity(count);
        let mut parameters: Vec<String> = Vec::new();
        for (at, segment) in rest.split('/').enumerate() {
            let is_last = at + 1 == count;
            let parsed = parse_segment(segment, is_last)?;
            if let Segment::Parameter(name) = &parsed {
                // They become names of headers, which do not tell upper case from lower case.
                let name = name.to_ascii_lowercase();
                if parameters.contains(&name) {
                    return invalid(
                        format!("has two parameters :{name}"),
                        "a name of its own for each, in which more differs than upper and lower case",
                    );
                }
                parameters.push(name);
            }
            segments.push(parsed);
        }
        if parameters.len() > MAX_PARAMETERS {
            return invalid(
                format!("has more than {MAX_PARAMETERS} parameters"),
                "\"/...\" at the end, and let the function take the path apart",
            );
        }
        Ok(Self { text: text.to_owned(), segments })
    }
}

fn invalid<T>(what: impl Into<String>, advice: impl Into<String>) -> Result<T, InvalidRoute> {
    Err(InvalidRoute { what: what.into(), advice: advice.into() })
}

/// Refuses what no path of a request has as it stands, or what is meant as something else.
fn check_characters(text: &str) -> Result<(), InvalidRoute> {
    // Those that RFC 3986 lets a segment have, without escapes, and the slash.
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()+,;=:@/".contains(c);
    let Some(c) = text.chars().find(|c| !is_allowed(*c)) else { return Ok(()) };
    match c {
        '%' => invalid(
            "has an escape with %; paths are not decoded before they are compared, so it would not match \
             the character that is meant",
            "a name without escapes, or a parameter such as \":name\"",
        ),
        '*' => invalid(
            "has a *, which is no wildcard",
            "\"/...\" at the end, or \":name\" for one segment",
        ),
        '{' | '}' => invalid(format!("has a {c}"), "\":name\" for a parameter"),
        '?' | '#' => invalid(
            format!("has a {c}; queries and fragments are no part of a path"),
            "the path alone, and let the function read the query",
        ),
        c => invalid(
            format!("has the character {c:?}, which no path of a request has"),
            "letters, digits and -._~ in names",
        ),
    }
}

fn parse_segment(segment: &str, is_last: bool) -> Result<Segment, InvalidRoute> {
    if segment == "..." {
        return if is_last {
            Ok(Segment::Rest)
        } else {
            invalid(
                "has a ... before its end",
                "\"...\" as the last segment only, \":name\" before it",
            )
        };
    }
    if segment.ends_with("...") {
        return invalid(
            format!(
                "has a segment {segment:?}; what stands for the rest of a path is a segment of its own"
            ),
            "\"/...\"",
        );
    }
    if segment == "." || segment == ".." {
        return invalid(
            format!("has a segment {segment:?}, which clients take out before they send a path"),
            "the path that is meant",
        );
    }
    if segment.is_empty() && !is_last {
        return invalid(
            "has two slashes in a row; they are not taken for one, so no usual path matches",
            "one slash",
        );
    }
    let Some(name) = segment.strip_prefix(':') else {
        return Ok(Segment::Name(segment.into()));
    };
    let is_allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if name.is_empty() || !name.bytes().all(is_allowed) {
        return invalid(
            format!("has a parameter {segment:?}"),
            "a colon and a name of letters, digits, - and _, such as \":user\"",
        );
    }
    Ok(Segment::Parameter(name.into()))
}
