//! What goes wrong, one thing at a time: others are served meanwhile, and each failure is told once.

use std::time::{Duration, Instant};

use crate::client::{Client, get};
use crate::host::{Host, unruly};

/// Asks something ordinary, which must be answered as ever.
async fn serves_on(host: &Host) {
    let answer = get(host.address(), "/tag?still").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "still"));
}

/// A request that fails by the function's own doing: what the client sees, and what is told of it.
async fn fails(path: &str, keys: &str, status: u16, kind: &str) {
    let host = Host::start(&unruly(keys)).await;
    let answer = get(host.address(), path).await.unwrap();
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    assert!(!answer.text().contains("unruly"), "nothing of the inside is told: {}", answer.text());
    serves_on(&host).await;
    assert_eq!(host.failures(kind).await, 1.0);
    assert_eq!(host.failures("").await, 1.0);
    let recent = host.status().await["failures"].clone();
    assert_eq!(recent.as_array().unwrap().len(), 1);
    assert_eq!((&recent[0]["kind"], &recent[0]["status"]), (&kind.into(), &status.into()));
    let trace = recent[0]["trace_id"].as_str().unwrap().to_owned();
    assert!(answer.text().contains(&trace), "{}", answer.text());
    let records = host.records().await;
    let crashes: Vec<_> = records.iter().filter(|r| r["record"] == "crash").collect();
    assert_eq!(crashes.len(), 1);
    assert_eq!(crashes[0]["trace_id"].as_str(), Some(&*trace));
    assert_eq!(crashes[0]["digest"].as_str().unwrap().len(), 64);
    let accesses = records.iter().filter(|r| r["record"] == "access" && r["failure"] == kind);
    assert_eq!(accesses.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_traps() {
    fails("/panic", "", 502, "trap").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_does_not_answer() {
    fails("/silent", "", 502, "no_answer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_spins() {
    fails("/spin", "limits = { deadline = \"300ms\" }", 504, "deadline").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_waits_too_long() {
    fails("/sleep?60000", "limits = { deadline = \"300ms\" }", 504, "deadline").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_wants_too_much_memory() {
    fails("/memory?100000000", "limits = { memory = \"16M\" }", 502, "trap").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_has_a_backtrace_in_its_report() {
    let host = Host::start(&unruly("")).await;
    get(host.address(), "/panic").await.unwrap();
    let status = host.status().await;
    let backtrace = status["failures"][0]["backtrace"].as_array().unwrap();
    let names: Vec<_> = backtrace.iter().filter_map(|line| line.as_str()).collect();
    assert!(names.iter().any(|name| name.contains("panic")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_is_seen_to_be_one() {
    let host = Host::start(&unruly("")).await;
    let answer = get(host.address(), "/half").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "the first half"));
    assert!(!answer.is_complete, "the client must see that the end is missing");
    serves_on(&host).await;
    assert_eq!(host.failures("trap").await, 1.0);
    assert_eq!(host.failures("").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_fails_every_time_fails_by_itself() {
    let host = Host::start(&unruly("pool = { policy = \"reset\" }")).await;
    for _ in 0..50 {
        assert_eq!(get(host.address(), "/panic").await.unwrap().status, 502);
    }
    serves_on(&host).await;
    assert_eq!(host.failures("trap").await, 50.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_stops_its_function() {
    let host = Host::start(&unruly("limits = { deadline = \"none\", concurrency = 1 }")).await;
    for path in ["/spin", "/sleep?3600000"] {
        host.runs(0).await;
        let mut client = Client::connect(host.address()).await.unwrap();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n").as_bytes()).await.unwrap();
        host.runs(1).await;
        drop(client);
        // There is room for one only: this is served when the other is gone.
        serves_on(&host).await;
    }
    assert_eq!(host.failures("client_gone").await, 2.0);
    assert_eq!(host.failures("").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_in_the_middle_of_an_answer_stops_its_function() {
    let host = Host::start(&unruly("limits = { deadline = \"none\", concurrency = 1 }")).await;
    let mut client = Client::connect(host.address()).await.unwrap();
    client.send(b"GET /bytes?60000000 HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
    client.stream.readable().await.unwrap();
    drop(client);
    serves_on(&host).await;
    assert_eq!(host.failures("client_gone").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_too_slow_are_cut_off() {
    let host = Host::start_with(&unruly("limits = { deadline = \"none\" }"), |settings| {
        settings.header_timeout = Duration::from_millis(500);
        settings.body_timeout = Duration::from_millis(500);
    })
    .await;
    // No end of the headers.
    let mut slow = Client::connect(host.address()).await.unwrap();
    slow.send(b"GET /tag HTTP/1.1\r\nhost: t\r\nx-a: ").await.unwrap();
    // No body.
    let mut silent = Client::connect(host.address()).await.unwrap();
    silent
        .send(b"POST /length HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nhalf")
        .await
        .unwrap();
    // Nobody reads the answer.
    let mut deaf = Client::connect(host.address()).await.unwrap();
    deaf.send(b"GET /bytes?60000000 HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
    serves_on(&host).await;
    assert!(slow.is_closed().await);
    assert_eq!(silent.answer(false).await.unwrap().status, 408);
    host.runs(0).await;
    assert_eq!(host.failures("client_slow").await, 1.0);
    assert_eq!(host.failures("client_gone").await, 1.0);
    serves_on(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_whose_end_can_be_read_in_two_ways_are_refused() {
    let host = Host::start(&unruly("")).await;
    let smuggled = [
        "POST /tag HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        "POST /tag HTTP/1.1\r\nhost: t\r\ncontent-length: +4\r\n\r\nabcd",
        "POST /tag HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /tag HTTP/1.1\r\nhost: t\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /tag HTTP/1.0\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /tag HTTP/1.1\r\nhost: t\r\nhost: u\r\n\r\n",
        "GET /tag HTTP/1.1\r\n\r\n",
        "GET /tag HTTP/1.1\r\nhost : t\r\n\r\n",
        "GET /tag HTTP/1.1\r\nhost: t\r\n folded: x\r\n\r\n",
        "GET /tag\u{0} HTTP/1.1\r\nhost: t\r\n\r\n",
        "CONNECT t:80 HTTP/1.1\r\nhost: t\r\n\r\n",
        "nonsense\r\n\r\n",
    ];
    let mut refused = 0.0;
    // Kept, so that none of them has the address of another.
    let mut clients = Vec::new();
    for request in smuggled {
        let mut client = Client::connect(host.address()).await.unwrap();
        client.send(request.as_bytes()).await.unwrap();
        // What follows would be somebody else's request. The connection may be closed by now.
        let _ = client.send(b"GET /tag?smuggled HTTP/1.1\r\nhost: t\r\n\r\n").await;
        let answer = client.answer(false).await.unwrap();
        assert!(matches!(answer.status, 400 | 404 | 501), "{request:?}: {}", answer.status);
        assert!(client.is_closed().await, "{request:?}");
        refused += f64::from(u8::from(answer.status != 404));
        clients.push((request, answer.status, client));
    }
    assert_eq!(host.metric("faas_invocations_total", &[]).await, 0.0);
    let name = "sandgrain_malformed_requests_total";
    let counted = async |host: &Host| host.metric(name, &[]).await == refused;
    host.eventually("each is counted once", counted).await;
    // With both, the encoding holds, and what follows is not believed.
    let mut client = Client::connect(host.address()).await.unwrap();
    client
        .send(
            b"POST /length HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
              2\r\nab\r\n0\r\n\r\nGET /tag?smuggled HTTP/1.1\r\nhost: t\r\n\r\n",
        )
        .await
        .unwrap();
    assert_eq!(client.answer(false).await.unwrap().text(), "2");
    assert!(client.is_closed().await);
    assert_eq!(host.metric("faas_invocations_total", &[]).await, 1.0);
    serves_on(&host).await;
    let records = host.records().await;
    for (request, status, client) in clients {
        let address = client.stream.local_addr().unwrap().to_string();
        let told: Vec<_> = records.iter().filter(|record| record["client"] == address).collect();
        assert_eq!(told.len(), 1, "{request:?}: {told:?}");
        assert_eq!(told[0]["status"], status, "{request:?}: {told:?}");
        match told[0]["record"].as_str().unwrap() {
            // What the server itself refuses is a request.
            "access" => assert_eq!(told[0]["failure"], "bad_request", "{request:?}: {told:?}"),
            "malformed" => assert_ne!(told[0]["detail"], "", "{request:?}: {told:?}"),
            other => panic!("{request:?}: {other}"),
        }
    }
    let malformed = records.iter().filter(|record| record["record"] == "malformed").count();
    assert!(malformed >= 8, "those that cannot be read: {malformed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_takes_its_own_requests_along_and_no_others() {
    let host = Host::start(&unruly("limits = { deadline = \"50s\" }")).await;
    serves_on(&host).await;
    host.runs(0).await;
    // Or the request may be the one for which no VM can be made.
    let is_parked = async |host: &Host| host.metric("sandgrain_vms_parked", &[]).await >= 1.0;
    host.eventually("a VM is parked", is_parked).await;
    let address = host.address();
    let waiting = tokio::spawn(async move { get(address, "/sleep?600000").await.unwrap() });
    host.runs(1).await;
    let has_vm = async |host: &Host| host.metric("sandgrain_vms_in_use", &[]).await == 1.0;
    host.eventually("it has a VM", has_vm).await;
    kill_workers(&host).await;
    // Nobody waits until the guest would have woken, nor for its deadline.
    assert_eq!(waiting.await.unwrap().status, 502);
    for _ in 0..5 {
        serves_on(&host).await;
    }
    assert_eq!(host.failures("host").await, 1.0);
    assert_eq!(host.failures("").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_make_no_vms_is_not_ready_until_it_can_again() {
    let programs = tempfile::tempdir().unwrap();
    let (own, away) = (programs.path().join("worker"), programs.path().join("away"));
    std::os::unix::fs::symlink(crate::host::worker(), &own).unwrap();
    let host = Host::start_with(&unruly(""), |settings| settings.worker = Some(own.clone())).await;
    assert_eq!(host.admin("/readyz").await, (200, "ok\n".to_owned()));
    // Functions that fail have VMs all the same.
    for _ in 0..5 {
        assert_eq!(get(host.address(), "/panic").await.unwrap().status, 502);
    }
    assert_eq!(host.admin("/readyz").await.0, 200);

    std::fs::rename(&own, &away).unwrap();
    kill_workers(&host).await;
    host.eventually("it says that it is not ready", async |host| {
        // That they are gone is seen when they are needed.
        let status = get(host.address(), "/tag?x").await.unwrap().status;
        assert!(matches!(status, 200 | 502 | 503), "{status}");
        host.admin("/readyz").await.0 == 503
    })
    .await;
    let said = host.admin("/readyz").await.1;
    assert!(said.contains("tests/unruly") && said.contains("cannot be started"), "{said}");
    assert_eq!(host.metric("sandgrain_ready", &[]).await, 0.0);
    let status = host.status().await;
    assert!(status["readiness"].as_str().unwrap().contains("tests/unruly"), "{status}");

    // Nobody asks for anything meanwhile.
    std::fs::rename(&away, &own).unwrap();
    host.eventually("it is ready again", async |host| host.admin("/readyz").await.0 == 200).await;
    serves_on(&host).await;
}

async fn kill_workers(host: &Host) {
    let status = host.status().await;
    for worker in status["applications"][0]["workers"].as_array().unwrap() {
        let pid = worker["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_told_at_once() {
    let host = Host::start(&unruly("")).await;
    let dir = tempfile::tempdir().unwrap();
    let path = crate::host::write_manifest(dir.path(), &unruly(""));
    for admin in [true, false] {
        let mut settings = crate::host::settings(dir.path());
        match admin {
            true => settings.admin = host.server.admin_address(),
            false => settings.listen = host.address(),
        }
        let begun = Instant::now();
        let error = sandgrain_serve::Server::start(settings, std::slice::from_ref(&path)).await;
        let text = error.expect_err("it cannot start").to_string();
        assert!(text.contains("cannot listen at 127.0.0.1") && text.contains("try:"), "{text}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    serves_on(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_cannot_be_written_cost_no_request() {
    let host = Host::start_with(&unruly(""), |settings| {
        // Every write says that the disk is full.
        settings.records = sandgrain_serve::RecordTarget::File("/dev/full".into());
    })
    .await;
    for _ in 0..20 {
        serves_on(&host).await;
    }
    host.eventually("the loss is counted", async |host| {
        host.metric("sandgrain_lost_records_total", &[]).await >= 20.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_hold_nobody_up() {
    // Each has two ends in this process.
    let (_, hard) = crate::load::raise_descriptors();
    let count =
        usize::try_from(hard).map_or(10_000, |hard| (hard.saturating_sub(500) / 2).min(10_000));
    assert!(count >= 1000, "only {hard} descriptors: too few for this test; try: ulimit -n 20500");
    let host = Host::start(&unruly("")).await;
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(Client::connect(host.address()).await.unwrap());
    }
    host.eventually("all are connected", async |host| {
        host.metric("sandgrain_connections", &[]).await >= count as f64
    })
    .await;
    for _ in 0..20 {
        serves_on(&host).await;
    }
    // Any of them can be used still.
    for client in idle.iter_mut().step_by(997) {
        assert_eq!(client.request("GET", "/tag?x", b"").await.unwrap().text(), "x");
    }
}
