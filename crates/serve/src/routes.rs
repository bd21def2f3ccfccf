//! Which function answers a request: routes, and the search for the one that a path matches.
//!
//! A path is compared as the client sent it, byte by byte. Nothing is decoded, and no dots or slashes are taken
//! out: `/%68ello`, `/./hello` and `//hello` are three paths, and none of them is `/hello`. Whoever did that here
//! would have to be sure that the function does the same, or one of them sees a path that the other does not.
//!
//! The search goes through a trie of segments. At a place where a route has a name and another one a parameter
//! both may have to be tried, so each parameter of a route can double the work; with the [few](MAX_PARAMETERS)
//! that there may be, it is proportional to the length of the path, however many routes there are.

mod route;

use std::collections::HashMap;
use std::fmt;

use route::Segment;
pub use route::{InvalidRoute, MAX_PARAMETERS, MAX_ROUTE, Route};

/// Routes and what each leads to.
#[derive(Clone, Debug)]
pub struct Routes<T> {
    nodes: Vec<Node>,
    routes: Vec<(Route, T)>,
}

/// A place that routes lead through: what follows it, as indices of nodes and of routes.
#[derive(Clone, Debug, Default)]
struct Node {
    names: HashMap<Box<str>, usize>,
    parameter: Option<usize>,
    /// The route that ends here.
    end: Option<usize>,
    /// The route that goes on with `...` here.
    rest: Option<usize>,
}

/// Two routes that match the same paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The route that was there before.
    pub earlier: String,
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the route {:?} matches the same paths; try: keep one of them", self.earlier)
    }
}

impl std::error::Error for Duplicate {}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], routes: Vec::new() }
    }
}

impl<T> Routes<T> {
    /// No routes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route and what it leads to.
    ///
    /// # Errors
    /// [`Duplicate`] if there is a route already that matches the same paths. Names of parameters make no
    /// difference.
    pub fn insert(&mut self, route: Route, function: T) -> Result<(), Duplicate> {
        let mut at = 0;
        let mut is_rest = false;
        for segment in route.segments() {
            let free = self.nodes.len();
            let node = &mut self.nodes[at];
            at = match segment {
                Segment::Name(name) => *node.names.entry(name.clone()).or_insert(free),
                Segment::Parameter(_) => *node.parameter.get_or_insert(free),
                Segment::Rest => {
                    is_rest = true;
                    break;
                }
            };
            if at == free {
                self.nodes.push(Node::default());
            }
        }
        let node = &mut self.nodes[at];
        let slot = if is_rest { &mut node.rest } else { &mut node.end };
        if let Some(earlier) = *slot {
            return Err(Duplicate { earlier: self.routes[earlier].0.to_string() });
        }
        *slot = Some(self.routes.len());
        self.routes.push((route, function));
        Ok(())
    }

    /// The routes, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&Route, &T)> {
        self.routes.iter().map(|(route, function)| (route, function))
    }

    /// The route that a path matches, if any does; the most specific one if several do.
    ///
    /// `path` is that of the request, as it was sent, without the query. One that does not begin with a slash,
    /// such as the `*` of `OPTIONS`, matches nothing.
    ///
    /// Of two routes that match, the one wins that is more specific at the first segment in which they differ: a
    /// name before a parameter, a parameter before `...`, and a route that ends before one that goes on with
    /// `...`.
    #[must_use]
    pub fn find<'a>(&'a self, path: &'a str) -> Option<Match<'a, T>> {
        self.search(path, &mut 0)
    }

    /// Finds the route of a path, and counts its steps for the tests.
    fn search<'a>(&'a self, path: &'a str, steps: &mut usize) -> Option<Match<'a, T>> {
        // What is still to try, the most specific last.
        let mut open = vec![Step::Visit(0, Some(path.strip_prefix('/')?))];
        let route = loop {
            *steps += 1;
            let (at, left) = match open.pop()? {
                Step::Take(route) => break route,
                Step::Visit(at, left) => (at, left),
            };
            let node = &self.nodes[at];
            open.extend(node.rest.map(Step::Take));
            let Some(left) = left else {
                open.extend(node.end.map(Step::Take));
                continue;
            };
            let (segment, left) = match left.split_once('/') {
                Some((segment, left)) => (segment, Some(left)),
                None => (left, None),
            };
            let parameter = node.parameter.filter(|_| !segment.is_empty());
            open.extend(parameter.map(|next| Step::Visit(next, left)));
            open.extend(node.names.get(segment).map(|next| Step::Visit(*next, left)));
        };
        let (route, function) = &self.routes[route];
        Some(Match { route, function, path })
    }
}

/// A step of a search.
enum Step<'a> {
    /// Goes on at a node with what is left of the path, which after its last segment is nothing at all.
    Visit(usize, Option<&'a str>),
    /// Ends with a route.
    Take(usize),
}

/// A route that was found for a path.
#[derive(Debug)]
pub struct Match<'a, T> {
    /// The route.
    pub route: &'a Route,
    /// What it leads to.
    pub function: &'a T,
    /// The path that it was found for.
    pub path: &'a str,
}

impl<'a, T> Match<'a, T> {
    /// What `...` stands for: of `/users/...` it is `/1/edit` for `/users/1/edit`, `/` for `/users/`, and nothing
    /// for `/users`. `None` for a route without it.
    #[must_use]
    pub fn rest(&self) -> Option<&'a str> {
        let segments = self.route.segments().len();
        self.route.has_rest().then(|| {
            let end = self.path.match_indices('/').nth(segments - 1);
            &self.path[end.map_or(self.path.len(), |(at, _)| at)..]
        })
    }

    /// What parameters stand for, by their names, in the route's order.
    pub fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a, T> {
        let values = self.path.split('/').skip(1);
        self.route.segments().iter().zip(values).filter_map(|(segment, value)| match segment {
            Segment::Parameter(name) => Some((&**name, value)),
            Segment::Name(_) | Segment::Rest => None,
        })
    }

    /// The headers that tell a function how its request was routed: names, in lower case, and values.
    ///
    /// Headers whose names begin with [`HEADER_PREFIX`] have to be taken off a request before these are added:
    /// otherwise clients could send what only the server knows.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            ("spin-path-info".to_owned(), self.rest().unwrap_or_default().to_owned()),
            ("spin-matched-route".to_owned(), self.route.to_string()),
            ("spin-raw-component-route".to_owned(), self.route.to_string()),
            ("spin-component-route".to_owned(), self.route.without_rest().to_owned()),
        ];
        for (name, value) in self.parameters() {
            let name = format!("spin-path-match-{}", name.to_ascii_lowercase());
            headers.push((name, value.to_owned()));
        }
        headers
    }
}

/// How the names of the headers begin that only the server may set.
pub const HEADER_PREFIX: &str = "spin-";

#[cfg(test)]
mod tests {
    use super::{Route, Routes};

    fn add(routes: &mut Routes<()>, text: &str) {
        routes.insert(text.parse::<Route>().unwrap(), ()).unwrap();
    }

    #[test]
    fn the_number_of_routes_beside_it_makes_no_difference_for_a_search() {
        let mut routes = Routes::new();
        for at in 0..10_000 {
            add(&mut routes, &format!("/a/{at}/:x/c{at}"));
        }
        let mut steps = 0;
        assert!(routes.search("/a/77/x/c77", &mut steps).is_some());
        // One for each segment, the beginning and the end.
        assert_eq!(steps, 6);
    }

    #[test]
    fn a_path_made_to_be_tried_in_every_way_takes_bounded_steps() {
        // At each of eight places a name and a parameter, and an end that does not fit.
        let mut routes = Routes::new();
        for bits in 0..256_u32 {
            let segment = |at: u32| {
                if bits >> at & 1 == 0 { "/a".to_owned() } else { format!("/:p{at}") }
            };
            let begin: String = (0..8).map(segment).collect();
            add(&mut routes, &format!("{begin}/end"));
        }
        for length in [9, 1000, 100_000] {
            let mut steps = 0;
            assert!(routes.search(&"/a".repeat(length), &mut steps).is_none());
            // All nodes but the last ones, and that nothing is left.
            assert_eq!(steps, 512, "{length}");
        }
    }
}
