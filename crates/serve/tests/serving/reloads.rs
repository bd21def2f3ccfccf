//! New versions in place of old ones.

use std::time::Duration;

use crate::client::get;
use crate::host::{Host, unruly, write_manifest};

fn greeting(text: &str) -> String {
    unruly(&format!("environment = {{ GREETING = \"{text}\" }}"))
}

async fn greets(host: &Host) -> String {
    get(host.address(), "/environment").await.unwrap().text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_the_place_of_the_old_one_which_ends_its_requests() {
    let host = Host::start(&greeting("old")).await;
    assert_eq!(greets(&host).await, "GREETING=old\n");
    host.runs(0).await;
    let address = host.address();
    let slow = tokio::spawn(async move { get(address, "/sleep?1500").await.unwrap() });
    host.runs(1).await;
    write_manifest(host.dir.path(), &greeting("new"));
    assert!(host.server.reload().await.is_empty());
    assert_eq!(greets(&host).await, "GREETING=new\n");
    assert_eq!(slow.await.unwrap().text(), "slept");
    let status = host.status().await;
    assert_eq!(status["applications"][0]["generation"], 2);
    // Counts go on.
    assert_eq!(status["applications"][0]["functions"][0]["requests"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_leaves_the_old_one_in_place() {
    let host = Host::start(&greeting("old")).await;
    std::fs::write(host.dir.path().join("bad.wasm"), b"\0asm\x0d\0\x01\0nonsense").unwrap();
    for (bad, told) in [
        ("spin_manifest_version = 2\nnonsense", "app.toml:2"),
        (&*unruly("").replace("unruly.wasm", "missing.wasm"), "missing.wasm"),
        (&*unruly("").replace("{examples}/unruly.wasm", "{dir}/bad.wasm"), "unruly"),
        (&*unruly("").replace("unruly.wasm", "host.wasm"), "incoming-handler"),
    ] {
        write_manifest(host.dir.path(), bad);
        let errors = host.server.reload().await;
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().contains(told), "{} lacks {told}", errors[0]);
        assert_eq!(greets(&host).await, "GREETING=old\n");
        let status = host.status().await;
        let shown = status["applications"][0]["last_reload_error"].as_str().unwrap().to_owned();
        assert!(shown.contains(told), "{shown}");
    }
    assert_eq!(host.metric("sandgrain_failed_reloads_total", &[]).await, 4.0);
    write_manifest(host.dir.path(), &greeting("mended"));
    assert!(host.server.reload().await.is_empty());
    assert_eq!(greets(&host).await, "GREETING=mended\n");
    assert!(host.status().await["applications"][0]["last_reload_error"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_seen_and_bad_ones_are_tried_once() {
    let host = Host::start_with(&greeting("old"), |settings| {
        settings.watch = Some(Duration::from_millis(50));
    })
    .await;
    write_manifest(host.dir.path(), &greeting("new"));
    host.eventually("the change is served", async |host| greets(host).await == "GREETING=new\n")
        .await;
    write_manifest(host.dir.path(), "nonsense");
    host.eventually("the mistake is seen", async |host| {
        host.metric("sandgrain_failed_reloads_total", &[]).await == 1.0
    })
    .await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(host.metric("sandgrain_failed_reloads_total", &[]).await, 1.0);
    assert_eq!(host.metric("sandgrain_reloads_total", &[]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_during_many_reloads_all_are_answered() {
    let host = Host::start(&greeting("0")).await;
    let address = host.address();
    let asking = tokio::spawn(async move {
        let mut count = 0;
        for _ in 0..300 {
            let answer = get(address, "/environment").await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.text().starts_with("GREETING="), "{}", answer.text());
            count += 1;
        }
        count
    });
    for version in 1..6 {
        write_manifest(host.dir.path(), &greeting(&version.to_string()));
        assert!(host.server.reload().await.is_empty());
    }
    assert_eq!(asking.await.unwrap(), 300);
    assert_eq!(host.failures("").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_a_version_that_is_refused_do_not_hold() {
    let host = Host::start(&greeting("old")).await;
    let tight =
        unruly("").replace("unruly.wasm", "host.wasm") + "\n[tenant]\nconcurrency = 1\nqueue = 0";
    write_manifest(host.dir.path(), &tight);
    assert_eq!(host.server.reload().await.len(), 1);
    let address = host.address();
    let asked: Vec<_> = (0..4)
        .map(|_| tokio::spawn(async move { get(address, "/sleep?300").await.unwrap().status }))
        .collect();
    for asked in asked {
        assert_eq!(asked.await.unwrap(), 200);
    }
}
