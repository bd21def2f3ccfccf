//! Which route a path is given.

use proptest::prelude::*;
use sandgrain_serve::routes::{Match, Route, Routes};

fn route(text: &str) -> Route {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Routes that lead to their own texts.
fn routes(texts: &[&'static str]) -> Routes<&'static str> {
    let mut routes = Routes::new();
    for text in texts {
        routes.insert(route(text), *text).unwrap();
    }
    routes
}

#[test]
fn a_path_gets_the_most_specific_route() {
    let routes = routes(&[
        "/...",
        "/",
        "/hello",
        "/hello/",
        "/users/...",
        "/users/admin",
        "/:user/profile",
        "/users/:id/edit",
        "/files/:name",
        "/a/b/...",
        "/a/:x/c",
    ]);
    for (path, expected) in [
        ("/", "/"),
        ("/hello", "/hello"),
        ("/hello/", "/hello/"),
        ("/hello/x", "/..."),
        ("/Hello", "/..."),
        ("/hell", "/..."),
        ("/helloo", "/..."),
        ("/users", "/users/..."),
        ("/users/", "/users/..."),
        ("/users/1", "/users/..."),
        ("/users/1/edit", "/users/:id/edit"),
        ("/users//edit", "/users/..."),
        ("/users/1/edit/", "/users/..."),
        ("/users/admin", "/users/admin"),
        ("/users/admin/", "/users/..."),
        // A name at the first segment wins, although the other route has one at the second.
        ("/users/profile", "/users/..."),
        ("/ada/profile", "/:user/profile"),
        ("/usersx/profile", "/:user/profile"),
        ("//profile", "/..."),
        ("/files/a.txt", "/files/:name"),
        ("/files/", "/..."),
        ("/files/a/b", "/..."),
        ("/a/b/c", "/a/b/..."),
        ("/a/d/c", "/a/:x/c"),
        ("/a/d/e", "/..."),
    ] {
        let found = routes.find(path).map(|found| *found.function);
        assert_eq!(found, Some(expected), "{path}");
    }
}

#[test]
fn paths_are_compared_as_they_were_sent() {
    let routes = routes(&["/hello", "/a/b"]);
    for path in [
        "/%68ello",
        "//hello",
        "/./hello",
        "/x/../hello",
        "/hello/.",
        "/hello%2f",
        "/a//b",
        "/a%2Fb",
    ] {
        assert!(routes.find(path).is_none(), "{path}");
    }
}

#[test]
fn what_does_not_begin_with_a_slash_matches_nothing() {
    let routes = routes(&["/..."]);
    for path in ["", "*", "hello", "?"] {
        assert!(routes.find(path).is_none(), "{path}");
    }
    assert!(Routes::<()>::new().find("/").is_none());
}

#[test]
fn what_wildcards_and_parameters_stand_for_is_told() {
    let routes = routes(&["/...", "/users/...", "/:user/files/:name", "/t/:id/..."]);
    let found = |path| -> (Option<&str>, Vec<(&str, &str)>) {
        let found: Match<'_, _> = routes.find(path).unwrap();
        (found.rest(), found.parameters().collect())
    };
    assert_eq!(found("/x/y"), (Some("/x/y"), vec![]));
    assert_eq!(found("/"), (Some("/"), vec![]));
    assert_eq!(found("/users"), (Some(""), vec![]));
    assert_eq!(found("/users/"), (Some("/"), vec![]));
    assert_eq!(found("/users/1/edit"), (Some("/1/edit"), vec![]));
    assert_eq!(found("/users//1"), (Some("//1"), vec![]));
    assert_eq!(found("/ada/files/a%20b"), (None, vec![("user", "ada"), ("name", "a%20b")]));
    assert_eq!(found("/t/7"), (Some(""), vec![("id", "7")]));
    assert_eq!(found("/t/7/x"), (Some("/x"), vec![("id", "7")]));
}

#[test]
fn a_function_is_told_by_headers_how_its_request_was_routed() {
    let routes = routes(&["/shop/:User/...", "/..."]);
    let headers = |path| {
        let headers = routes.find(path).unwrap().headers();
        headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    assert_eq!(
        headers("/shop/ada/cart/1"),
        [
            "spin-path-info: /cart/1",
            "spin-matched-route: /shop/:User/...",
            "spin-raw-component-route: /shop/:User/...",
            "spin-component-route: /shop/:User",
            "spin-path-match-user: ada",
        ]
    );
    assert_eq!(
        headers("/x"),
        [
            "spin-path-info: /x",
            "spin-matched-route: /...",
            "spin-raw-component-route: /...",
            "spin-component-route: ",
        ]
    );
}

#[test]
fn two_routes_for_the_same_paths_are_refused() {
    let mut routes = routes(&["/a/:x", "/b/...", "/c", "/:x/..."]);
    for (text, earlier) in
        [("/a/:y", "/a/:x"), ("/b/...", "/b/..."), ("/c", "/c"), ("/:other/...", "/:x/...")]
    {
        let error = routes.insert(route(text), "").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the route {earlier:?} matches the same paths; try: keep one of them")
        );
    }
    for text in ["/c/", "/c/...", "/b", "/a/x", "/..."] {
        routes.insert(route(text), "").unwrap();
    }
}

#[test]
fn what_no_path_matches_as_it_is_meant_is_no_route() {
    for (text, expected) in [
        ("", r#"does not begin with a slash; try: "/hello" or "/hello/...""#),
        ("hello", r#"does not begin with a slash; try: "/hello" or "/hello/...""#),
        (
            "/a%20b",
            "has an escape with %; paths are not decoded before they are compared, so it would not match \
             the character that is meant; try: a name without escapes, or a parameter such as \":name\"",
        ),
        (
            "/a/./b",
            r#"has a segment ".", which clients take out before they send a path; try: the path that is meant"#,
        ),
        (
            "/a/..",
            r#"has a segment "..", which clients take out before they send a path; try: the path that is meant"#,
        ),
        (
            "//a",
            "has two slashes in a row; they are not taken for one, so no usual path matches; try: one slash",
        ),
        (
            "/a//",
            "has two slashes in a row; they are not taken for one, so no usual path matches; try: one slash",
        ),
        (
            "/*",
            r#"has a *, which is no wildcard; try: "/..." at the end, or ":name" for one segment"#,
        ),
        ("/users/{id}", r#"has a {; try: ":name" for a parameter"#),
        (
            "/a?b",
            "has a ?; queries and fragments are no part of a path; try: the path alone, and let the function \
             read the query",
        ),
        (
            "/ä",
            "has the character 'ä', which no path of a request has; try: letters, digits and -._~ in names",
        ),
        (
            "/a b",
            "has the character ' ', which no path of a request has; try: letters, digits and -._~ in names",
        ),
        (
            "/a/.../b",
            r#"has a ... before its end; try: "..." as the last segment only, ":name" before it"#,
        ),
        (
            "/static/:file...",
            r#"has a segment ":file..."; what stands for the rest of a path is a segment of its own; try: "/...""#,
        ),
        (
            "/:",
            r#"has a parameter ":"; try: a colon and a name of letters, digits, - and _, such as ":user""#,
        ),
        (
            "/:a.b",
            r#"has a parameter ":a.b"; try: a colon and a name of letters, digits, - and _, such as ":user""#,
        ),
        (
            "/:a/:A",
            "has two parameters :a; try: a name of its own for each, in which more differs than upper and \
             lower case",
        ),
        (
            "/:a/:b/:c/:d/:e/:f/:g/:h/:i",
            r#"has more than 8 parameters; try: "/..." at the end, and let the function take the path apart"#,
        ),
    ] {
        let error = text.parse::<Route>().expect_err(text);
        assert_eq!(error.to_string(), format!("the route {expected}"), "{text}");
    }
    let long = format!("/{}", "a".repeat(1024));
    assert!(long.parse::<Route>().unwrap_err().to_string().contains("more than 1024 bytes"));
}

/// How a route matches a path, one segment after the other: 0 for a name, 1 for a parameter, 2 for the rest.
/// What comes first in their order is the more specific. Written without a look at the search.
fn slowly(route: &str, path: &str) -> Option<Vec<u8>> {
    let wanted: Vec<&str> = route.split('/').skip(1).collect();
    let given: Vec<&str> = path.split('/').skip(1).collect();
    let mut key = Vec::new();
    for (at, wanted) in wanted.iter().enumerate() {
        if *wanted == "..." {
            key.push(2);
            return Some(key);
        }
        let given = given.get(at)?;
        if wanted.starts_with(':') && !given.is_empty() {
            key.push(1);
        } else if wanted == given {
            key.push(0);
        } else {
            return None;
        }
    }
    (wanted.len() == given.len()).then_some(key)
}

fn some_route() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", ":x", ":y"]);
    let end = prop::sample::select(vec!["", "/", "/..."]);
    (prop::collection::vec(segment, 0..5), end).prop_map(|(segments, end)| {
        let mut text = String::new();
        for (at, segment) in segments.iter().enumerate() {
            text += "/";
            text += segment;
            // Each parameter has a name of its own.
            if segment.starts_with(':') {
                text += &at.to_string();
            }
        }
        text += end;
        if text.is_empty() { "/".to_owned() } else { text }
    })
}

fn some_path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "c", "", "..."]);
    prop::collection::vec(segment, 1..7).prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_search_finds_what_looking_at_every_route_finds(
        texts in prop::collection::vec(some_route(), 0..12),
        paths in prop::collection::vec(some_path(), 1..20),
    ) {
        let mut routes = Routes::new();
        let mut kept = Vec::new();
        for text in texts {
            if routes.insert(route(&text), text.clone()).is_ok() {
                kept.push(text);
            }
        }
        for path in paths {
            let best = kept.iter().filter_map(|text| Some((slowly(text, &path)?, text))).min();
            let found = routes.find(&path);
            prop_assert_eq!(found.as_ref().map(|found| found.function), best.map(|(_, text)| text), "{}", path);
            if let Some(found) = found {
                // What the route stands for, put together again, is the path.
                let mut text = found.route.without_rest().to_owned();
                for (name, value) in found.parameters() {
                    text = text.replacen(&format!(":{name}"), value, 1);
                }
                prop_assert_eq!(text + found.rest().unwrap_or_default(), path);
            }
        }
    }

    #[test]
    fn any_text_is_a_route_or_not_and_any_path_is_searched(text in "[/:.a-c%]{0,20}|\\PC*", path in "\\PC*") {
        let mut routes = Routes::new();
        if let Ok(route) = text.parse::<Route>() {
            prop_assert_eq!(route.as_str(), &text);
            routes.insert(route, ()).unwrap();
        }
        if let Some(found) = routes.find(&path) {
            prop_assert!(found.headers().len() >= 4);
        }
    }
}
