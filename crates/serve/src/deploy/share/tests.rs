use super::{Parked, Share};
use crate::manifest::{self, Manifest};
use proptest::prelude::*;

fn manifest(tenant: &str, functions: &[impl AsRef<str>]) -> Manifest {
    let mut text =
        format!("spin_manifest_version = 2\n[application]\nname = \"a\"\n[tenant]\n{tenant}\n");
    for (at, keys) in functions.iter().enumerate() {
        text += &format!("[component.c{at}]\nsource = \"x.wasm\"\n{}\n", keys.as_ref());
    }
    Manifest::parse(&text, "app.toml").into_manifest().expect("a good manifest")
}

/// That of a manifest whose application is its tenant's only one.
fn alone(manifest: &Manifest) -> Result<Share, String> {
    Share::of(manifest, std::iter::empty())
}

fn beside(manifest: &Manifest, other: &manifest::Tenant, parked: Parked) -> Result<Share, String> {
    Share::of(manifest, std::iter::once((other, parked)))
}

/// Those of two applications that are served together from the start.
fn together(one: &Manifest, other: &Manifest) -> [Result<Share, String>; 2] {
    [
        beside(one, &other.tenant, Parked::wanted(other)),
        beside(other, &one.tenant, Parked::wanted(one)),
    ]
}

#[test]
fn by_default_a_function_gets_what_its_pool_says() {
    let share = alone(&manifest("", &[""])).unwrap();
    assert_eq!(share.running, 240);
    let pool = share.pools[0];
    assert_eq!((pool.parked_min, pool.parked_max, pool.running, pool.at_most), (1, 16, 64, 64));
}

#[test]
fn a_tenant_that_only_may_park_is_told_so() {
    let manifest = manifest("vms = 2", &["pool = { parked_min = 2 }"]);
    let error = alone(&manifest).unwrap_err();
    assert!(error.contains("vms = 3") && !error.contains("other applications"), "{error}");
}

#[test]
fn applications_of_one_tenant_share_what_waits() {
    let manifest = manifest("", &["pool = { parked_max = 200, at_most = 200 }"]);
    let only = alone(&manifest).unwrap();
    assert_eq!((only.pools[0].parked_max, only.running), (128, 128));
    let [one, other] = together(&manifest, &manifest).map(Result::unwrap);
    assert_eq!(one, other);
    assert_eq!((one.pools[0].parked_max, one.running), (64, 128));
    // A new version of one of them that wants the same gets the same.
    assert_eq!(beside(&manifest, &manifest.tenant, other.parked()), Ok(one));
    // Another tenant's have nothing to do with it.
    let stranger = manifest::Tenant { name: "b".to_owned(), vms: 1, ..manifest.tenant.clone() };
    assert_eq!(beside(&manifest, &stranger, Parked { least: 999, most: 999 }), Ok(only));
}

#[test]
fn a_tenant_whose_applications_together_only_may_park_is_told_so() {
    let manifest = manifest("vms = 4", &["pool = { parked_min = 2 }"]);
    assert!(alone(&manifest).is_ok());
    for refused in together(&manifest, &manifest) {
        let error = refused.unwrap_err();
        assert!(error.contains("other applications of the tenant a 2"), "{error}");
        assert!(error.contains("vms = 5"), "{error}");
    }
}

#[test]
fn applications_of_one_tenant_agree_about_its_quotas() {
    let one = manifest("memory = \"1G\"", &[""]);
    let other = manifest("memory = \"2G\"", &[""]);
    for refused in together(&one, &other) {
        let error = refused.unwrap_err();
        assert!(error.contains("the tenant a") && error.contains("the same [tenant]"), "{error}");
    }
}

/// How many VMs a pool parks at least and how many more, whether it resets, how many requests run at a time.
type Pool = (u32, u32, bool, u32);

fn some_pools() -> impl Strategy<Value = Vec<Pool>> {
    prop::collection::vec((0..20_u32, 0..20_u32, any::<bool>(), 1..50_u32), 1..8)
}

fn keys(pools: &[Pool]) -> Vec<String> {
    let keys = |(min, more, reset, running): &Pool| {
        let policy = if *reset { "reset" } else { "fresh" };
        let max = min + more;
        format!(
            "pool = {{ policy = \"{policy}\", parked_min = {min}, parked_max = {max}, at_most = {} }}\n\
             limits = {{ concurrency = {running} }}",
            max.max(1)
        )
    };
    pools.iter().map(keys).collect()
}

fn least(pools: &[Pool]) -> u32 {
    pools.iter().map(|(min, ..)| min).sum()
}

proptest! {
    #[test]
    fn the_shares_never_are_more_than_the_tenant_may_have(
        vms in 1..300_u32,
        concurrency in 1..300_u32,
        pools in some_pools(),
    ) {
        prop_assume!(least(&pools) <= vms);
        let manifest =
            manifest(&format!("vms = {vms}\nconcurrency = {concurrency}"), &keys(&pools));
        let Ok(share) = alone(&manifest) else { return Ok(()) };
        let waiting: usize = share
            .pools
            .iter()
            .zip(&pools)
            .map(|(pool, (_, _, reset, _))| pool.parked_max * if *reset { 2 } else { 1 })
            .sum();
        prop_assert!(share.running >= 1 && share.running + waiting <= vms as usize);
        for pool in &share.pools {
            prop_assert!(pool.running >= 1 && pool.parked_min <= pool.parked_max);
            prop_assert!(pool.parked_max <= pool.at_most && pool.kept <= pool.at_most);
        }
        let all: usize = share.pools.iter().map(|pool| pool.at_most).sum();
        let keep_more = share.pools.iter().any(|pool| pool.kept > pool.parked_max);
        prop_assert!(!keep_more || all <= vms as usize);
    }

    #[test]
    fn applications_of_one_tenant_together_never_have_more_than_it_may(
        vms in 1..300_u32,
        one in some_pools(),
        other in some_pools(),
        later in some_pools(),
    ) {
        prop_assume!([&one, &other, &later].iter().all(|pools| least(pools) <= vms));
        let [one, other, later] =
            [one, other, later].map(|pools| manifest(&format!("vms = {vms}"), &keys(&pools)));
        let [one, of_other] = together(&one, &other);
        prop_assert_eq!(one.is_ok(), of_other.is_ok());
        let (Ok(one), Ok(of_other)) = (one, of_other) else { return Ok(()) };
        prop_assert_eq!(one.running, of_other.running);
        prop_assert!(one.running >= 1);
        prop_assert!(one.parked + of_other.parked + one.running <= vms as usize);
        // A new version takes the place of one of them; the other one is served as it was.
        let later = beside(&later, &other.tenant, of_other.parked());
        if let Ok(later) = later {
            prop_assert!(later.running >= 1);
            prop_assert!(later.parked + of_other.parked + later.running <= vms as usize);
        }
    }
}
