//! Many requests at a time, with faults among them: each gets its own answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt as _;

use crate::client::{Client, http_2, http_2_request};
use crate::host::{Host, unruly};

/// Takes as many descriptors as there may be. How many there were, and may be.
pub fn raise_descriptors() -> (u64, u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(1 << 20);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: limit.maximum });
    (limit.current.unwrap_or(hard), hard)
}

/// Requests in all: 50,000 where a VM is hardware's, fewer where it is emulated.
fn requests() -> u64 {
    let given = std::env::var("SANDGRAIN_LOAD_REQUESTS").ok();
    given.map_or(50_000, |text| text.parse().expect("SANDGRAIN_LOAD_REQUESTS is a number"))
}

/// What is asked with a number, and what is to be answered.
fn asked(number: u64) -> (String, &'static [u16]) {
    match number % 100 {
        13 => (format!("/panic?{number}"), &[502]),
        37 => (format!("/silent?{number}"), &[502]),
        61 => (format!("/half?{number}"), &[200, 502]),
        _ => (format!("/tag?{number}"), &[200]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_mixed_up_or_lost_among_many_with_faults() {
    raise_descriptors();
    let keys = "limits = { concurrency = 32, queue = 100000, deadline = \"60s\" }\npool = { policy = \"reset\" }";
    let tenant = "[tenant]\nqueue = 100000";
    let host = Host::start_with(&format!("{}\n{tenant}", unruly(keys)), |settings| {
        settings.accesses = false;
        settings.queue_timeout = std::time::Duration::from_secs(60);
    })
    .await;
    let host = Arc::new(host);
    let total = requests();
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for task in 0..250 {
        let (host, next) = (Arc::clone(&host), Arc::clone(&next));
        tasks.push(tokio::spawn(async move {
            if task % 5 == 0 {
                over_http_2(&host, &next, total).await
            } else {
                over_http_1(&host, &next, total).await
            }
        }));
    }
    let mut answered = 0;
    for task in tasks {
        answered += task.await.unwrap();
    }
    assert_eq!(answered, total);
    let expected = |rest: u64| (0..total).filter(|number| number % 100 == rest).count() as f64;
    assert_eq!(host.failures("trap").await, expected(13) + expected(61));
    assert_eq!(host.failures("no_answer").await, expected(37));
    assert_eq!(host.failures("").await, expected(13) + expected(37) + expected(61));
    assert_eq!(host.metric("faas_invocations_total", &[]).await, total as f64);
    assert_eq!(host.metric("sandgrain_requests_running", &[]).await, 0.0);
}

/// Asks until all numbers are taken. How many it asked.
async fn over_http_1(host: &Host, next: &AtomicU64, total: u64) -> u64 {
    let mut client = Client::connect(host.address()).await.unwrap();
    let mut count = 0;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= total {
            return count;
        }
        count += 1;
        let (path, statuses) = asked(number);
        let answer = client.request("GET", &path, b"").await;
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(statuses.contains(&answer.status), "{path}: {}", answer.status);
        if path.starts_with("/tag") {
            assert_eq!(answer.text(), number.to_string());
        }
        if path.starts_with("/half") {
            assert!(answer.status == 502 || !answer.is_complete, "{path}");
        }
        if !answer.is_complete {
            client = Client::connect(host.address()).await.unwrap();
        }
    }
}

async fn over_http_2(host: &Host, next: &AtomicU64, total: u64) -> u64 {
    let (mut sender, _connection) = http_2(host.address()).await;
    let mut count = 0;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= total {
            return count;
        }
        count += 1;
        let (path, statuses) = asked(number);
        let response = sender.send_request(http_2_request(&path)).await;
        let response = response.unwrap_or_else(|error| panic!("{path}: {error}"));
        let status = response.status().as_u16();
        assert!(statuses.contains(&status), "{path}: {status}");
        let body = response.into_body().collect().await;
        if path.starts_with("/tag") {
            assert_eq!(body.unwrap().to_bytes(), number.to_string());
        } else if path.starts_with("/half") {
            assert!(status == 502 || body.is_err(), "{path}");
        }
    }
}
