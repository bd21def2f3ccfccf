//! What a manifest becomes, and files that are none.

use sandgrain_serve::manifest::{
    Argument, Directory, Executor, Limits, MAX_SIZE, Manifest, Outbound, Policy, Pool, Scheme,
    Tenant,
};
use sandgrain_serve::{MAX_PROBLEMS, Severity};
use std::path::Path;
use std::time::Duration;

/// A good manifest with these lines at its end, which belong to the component `a`.
fn text_with(lines: &str) -> String {
    format!(
        "spin_manifest_version = 2\napplication = {{ name = \"x\" }}\n[[trigger.http]]\nroute = \"/a\"\n\
         component = \"a\"\n[component.a]\nsource = \"a.wasm\"\n{lines}\n"
    )
}

fn with(lines: &str) -> Manifest {
    let text = text_with(lines);
    Manifest::parse(&text, "app.toml")
        .into_manifest()
        .unwrap_or_else(|report| panic!("{lines}: {report}"))
}

#[test]
fn every_key_is_read_into_its_place() {
    let text = include_str!("good/full.toml");
    let manifest = Manifest::parse(text, "dir/app.toml").into_manifest().unwrap();
    let application = &manifest.application;
    assert_eq!(application.name, "shop_2");
    assert_eq!(application.version.as_deref(), Some("1.2.3"));
    assert_eq!(application.description.as_deref(), Some("sells things"));
    assert_eq!(application.authors, ["Ada <ada@example.com>", "Grace"]);
    let Tenant { name, concurrency, queue, memory, vms, .. } = manifest.tenant.clone();
    assert_eq!((name.as_str(), concurrency, queue, memory, vms), ("acme", 100, 0, 8 << 30, 300));

    // In the order of ids, then of triggers.
    let ids: Vec<_> = manifest.functions.iter().map(|function| function.id.as_str()).collect();
    assert_eq!(ids, ["cart", "old", "http-3"]);
    let [cart, old, inline] = manifest.functions.as_slice() else { unreachable!() };
    assert_eq!(cart.source, Path::new("dir/build/cart.wasm"));
    assert_eq!(old.source, Path::new("/srv/old.wasm"));
    assert_eq!(inline.source, Path::new("dir/inline.wasm"));
    assert_eq!(cart.description.as_deref(), Some("a cart"));
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(cart.environment, [variable("EMPTY", ""), variable("LANG", "C")]);
    let directory = |host: &str, guest: &str| Directory { host: host.into(), guest: guest.into() };
    assert_eq!(
        cart.directories,
        [directory("dir/assets/images/", "/assets/images"), directory("/srv/shared", "/shared")]
    );
    let outbound =
        |scheme, destination: &str| Outbound { scheme, destination: destination.to_owned() };
    assert_eq!(
        cart.outbound,
        [outbound(Scheme::Http, "*.example.com:80"), outbound(Scheme::Any, "10.0.0.0/8:1-9,443")]
    );

    let Limits { memory, stack, heap, deadline, tables, table_elements, instances, .. } =
        old.limits;
    assert_eq!((memory, stack, heap), (128 << 20, 1 << 20, 32 << 20));
    assert_eq!(deadline, Some(Duration::from_millis(1500)));
    assert_eq!((tables, table_elements, instances), (7, 4096, 9));
    let Limits { call_bytes, stdout, stderr, request_body, response_body, header_bytes, .. } =
        old.limits;
    assert_eq!((call_bytes, stdout, stderr), (1 << 20, 0, 1 << 10));
    assert_eq!((request_body, response_body, header_bytes), (2 << 20, 3 << 20, 8 << 10));
    assert_eq!((old.limits.concurrency, old.limits.queue), (10, 20));
    let Pool { policy, parked_min, parked_max, at_most, memory, .. } = old.pool;
    assert_eq!((policy, parked_min, parked_max, at_most), (Policy::Reset, 2, 3, 4));
    assert_eq!(memory, 1 << 30);

    // A function's own keys win, one by one.
    let mut limits = old.limits.clone();
    limits.memory = 1 << 30;
    assert_eq!(cart.limits, limits);
    let mut pool = old.pool.clone();
    (pool.policy, pool.at_most) = (Policy::Fresh, 64);
    assert_eq!(cart.pool, pool);
    assert_eq!(inline.limits.deadline, None);

    let found = |path| manifest.routes.find(path).map(|found| found.function.clone()).unwrap();
    assert_eq!((found("/cart/1/x").function, found("/cart/1/x").executor), (0, Executor::Http));
    assert_eq!(found("/inline").function, 2);
    let text = |text: &str| Argument::Text(text.to_owned());
    let argv = vec![text("old"), Argument::ScriptName, text("-q"), Argument::Query];
    let wagi = Executor::Wagi { argv, entrypoint: "main".to_owned() };
    assert_eq!((found("/old").function, found("/old").executor), (1, wagi));
    assert_eq!(manifest.schedules.len(), 1);
    assert_eq!(
        (manifest.schedules[0].function, manifest.schedules[0].schedule.as_str()),
        (1, "0 3 * * 1-5")
    );
}

#[test]
fn what_is_left_out_has_its_default() {
    let manifest = with("");
    let function = &manifest.functions[0];
    assert_eq!(function.limits, Limits::default());
    assert_eq!(function.pool, Pool::default());
    assert!(function.environment.is_empty() && function.directories.is_empty());
    assert!(function.outbound.is_empty());
    assert_eq!(manifest.tenant.name, "x");
    assert_eq!(function.source, Path::new("a.wasm"));
}

#[test]
fn a_program_gets_the_arguments_of_cgi_unless_others_are_given() {
    let text = include_str!("good/least.toml")
        .replace("component = \"hello\"", "component = \"hello\"\nexecutor = { type = \"wagi\" }");
    let manifest = Manifest::parse(&text, "app.toml").into_manifest().unwrap();
    let executor = &manifest.routes.find("/").unwrap().function.executor;
    let argv = vec![Argument::ScriptName, Argument::Query];
    assert_eq!(*executor, Executor::Wagi { argv, entrypoint: "_start".to_owned() });
}

#[test]
fn destinations_are_written_as_the_library_reads_them() {
    for (scheme, host, destination, granted) in [
        ("https", "Api.Example.com", "api.example.com:443", "http"),
        ("http", "api.example.com.", "api.example.com:80", "http"),
        ("https", "api.example.com:8000-8100,443", "api.example.com:8000-8100,443", "http"),
        ("http", "*", "*:80", "http"),
        ("http", "10.0.0.1", "10.0.0.1:80", "http"),
        ("tcp", "10.0.0.0/8:*", "10.0.0.0/8:*", "tcp"),
        ("udp", "[2001:db8::]/32:53", "[2001:db8::]/32:53", "udp"),
        ("http", "[::1]", "[::1]:80", "http"),
        ("tcp", "a_b-c:0010-0010", "a_b-c:10", "tcp"),
        ("*", "*.example.com:*", "*.example.com:*", "http tcp udp"),
    ] {
        let manifest = with(&format!("allowed_outbound_hosts = [\"{scheme}://{host}\"]"));
        let [outbound] = manifest.functions[0].outbound.as_slice() else { panic!("{host}") };
        assert_eq!(outbound.destination, destination);
        let kinds = [
            outbound.is_for_http().then_some("http"),
            outbound.is_for_tcp().then_some("tcp"),
            outbound.is_for_udp().then_some("udp"),
        ];
        assert_eq!(kinds.into_iter().flatten().collect::<Vec<_>>().join(" "), granted, "{scheme}");
    }
}

#[test]
fn a_directory_has_its_own_path_in_the_guest_or_the_one_that_is_given() {
    for (written, host, guest) in [
        ("\"data\"", "data", "/data"),
        ("\"./a//b/\"", "./a//b/", "/a/b"),
        ("\".\"", ".", "/"),
        ("{ source = \".\", destination = \"/\" }", ".", "/"),
        ("{ source = \"/srv/x\", destination = \"/a/b/\" }", "/srv/x", "/a/b"),
    ] {
        let manifest = with(&format!("files = [{written}]"));
        let [directory] = manifest.functions[0].directories.as_slice() else { panic!("{written}") };
        assert_eq!((directory.host.as_path(), directory.guest.as_str()), (Path::new(host), guest));
    }
}

#[test]
fn a_tenant_can_be_named_apart_from_the_application() {
    let manifest = with("[tenant]\nname = \"acme.eu\"");
    assert_eq!(
        (manifest.tenant.name.as_str(), manifest.application.name.as_str()),
        ("acme.eu", "x")
    );
}

#[test]
fn hosts_are_names_as_clients_ask_for_them() {
    let manifest =
        with("[tenant]\nhosts = [\"App.Example.com\", \"localhost\", \"[::1]\", \"10.0.0.1\"]");
    assert_eq!(manifest.tenant.hosts, ["app.example.com", "localhost", "[::1]", "10.0.0.1"]);
    for bad in
        ["", "a.example:80", "a b", "*.example", "a..b", "a/b", "[::g]", "A.example\", \"a.example"]
    {
        let text = format!("[tenant]\nhosts = [\"{bad}\"]");
        let report = Manifest::parse(&text_with(&text), "app.toml");
        assert!(!report.is_good(), "{bad:?}");
        assert!(report.to_string().contains("hosts in [tenant] has"), "{report}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.toml");
    let told = || {
        let report = Manifest::read(&path);
        assert!(!report.is_good() && report.manifest().is_none());
        report.to_string().replace(&path.display().to_string(), "app.toml")
    };
    assert_eq!(
        told(),
        "app.toml: error: the file cannot be read: No such file or directory (os error 2); try: the path of a manifest\n"
    );
    std::fs::create_dir(&path).unwrap();
    assert_eq!(
        told(),
        "app.toml: error: the file cannot be read: it is not a file; try: the path of a manifest\n"
    );
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
    assert_eq!(
        told(),
        "app.toml:2:6: error: there is a byte that is not UTF-8; try: saving the file as UTF-8\n"
    );
    let size = usize::try_from(MAX_SIZE).unwrap();
    std::fs::write(&path, " ".repeat(size + 1)).unwrap();
    assert_eq!(
        told(),
        "app.toml: error: the file has more than 1048576 bytes; try: several manifests\n"
    );
    assert_eq!(
        Manifest::parse(&" ".repeat(size + 1), "app.toml").to_string(),
        "app.toml: error: the file has more than 1048576 bytes; try: several manifests\n"
    );
    std::fs::write(&path, include_str!("good/least.toml")).unwrap();
    let manifest = Manifest::read(&path).into_manifest().unwrap();
    assert_eq!(manifest.functions[0].source, directory.path().join("hello.wasm"));
}

#[test]
fn the_name_of_a_file_cannot_forge_lines() {
    let report = Manifest::parse("", "a\n\u{1b}[2J.toml");
    assert!(report.to_string().starts_with("a\\n\\u{1b}[2J.toml:1:1: error: "), "{report}");
    assert_eq!(report.to_string().lines().count(), report.problems().len());
}

#[test]
fn a_file_full_of_errors_is_told_up_to_a_limit() {
    let text = (0..50_000).map(|at| format!("key_{at} = 1\n")).collect::<String>();
    let report = Manifest::parse(&text, "app.toml");
    assert_eq!(report.problems().len(), MAX_PROBLEMS);
    // Besides these keys, three things are missing.
    assert_eq!(report.omitted(), 50_003 - MAX_PROBLEMS);
    assert!(report.to_string().ends_with("and 49003 more; try: correct these first\n"));
    assert!(report.problems().iter().all(|problem| problem.severity == Severity::Error));
}

#[test]
fn a_manifest_as_large_as_may_be_is_read_whatever_is_in_it() {
    let many = |part: &dyn Fn(usize) -> String| -> String {
        let mut text = String::new();
        for at in 0.. {
            let part = part(at);
            if text.len() + part.len() > 1_000_000 {
                break;
            }
            text += &part;
        }
        text
    };
    for text in [
        format!("a{} = 1", ".a".repeat(400_000)),
        format!("[a{}]", ".a".repeat(400_000)),
        format!("x = {}", "{ a = ".repeat(150_000)),
        format!("x = {}", "[".repeat(900_000)),
        "\"".repeat(1_000_000),
        many(&|_| "[[trigger.http]]\n".to_owned()),
        many(&|_| "[a]\n".to_owned()),
        many(&|_| "a=\n".to_owned()),
        many(&|at| format!("[component.a{at}]\n")),
        format!("limits = {{ {} }}", many(&|at| format!("k{at}=1,"))),
        format!("[component.a]\nfiles = [{}]", many(&|at| format!("\"{at}\","))),
        many(&|at| format!("[[trigger.http]]\nroute = \"/{at}/:x\"\ncomponent = \"a{at}\"\n")),
    ] {
        assert!(!Manifest::parse(&text, "app.toml").is_good(), "{}", &text[..40]);
    }
}
