use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{Database, StorageBackend};
use tokio::sync::mpsc;

use super::shared::{KeySpaceName, StateShared};
use super::*;
use trunkline_config::Quota;
use trunkline_event::PluginName;

const QUOTA: Quota = Quota::per_tenant(1 << 20, 10_000);

fn plugin(name: &str) -> PluginName {
    PluginName::new(name).expect("a name")
}

fn set(key: &str, value: &str) -> StateChange {
    StateChange::Set(vec![(key.to_owned(), value.as_bytes().to_vec())])
}

fn text(value: Option<Vec<u8>>) -> Option<String> {
    value.map(|value| String::from_utf8(value).expect("text"))
}

#[tokio::test]
async fn tenants_and_plugins_are_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = StateStore::open(dir.path()).expect("opened");
    let spaces = [("p", Some("a")), ("p", Some("b")), ("p", None), ("p", Some("")), ("q", Some("a"))];
    for (number, (name, tenant)) in spaces.iter().enumerate() {
        let mut space = state.key_space(&plugin(name), *tenant, QUOTA);
        assert_eq!(space.get("k"), Ok(None), "{name} {tenant:?} sees no other's");
        space.change(set("k", &number.to_string())).await.expect("set");
    }
    for (number, (name, tenant)) in spaces.iter().enumerate() {
        let mut space = state.key_space(&plugin(name), *tenant, QUOTA);
        assert_eq!(text(space.get("k").expect("read")), Some(number.to_string()));
        assert_eq!(space.keys(None).expect("read").keys, ["k"]);
        space.change(StateChange::Delete(vec!["k".to_owned(), "none".to_owned()])).await.expect("deleted");
        assert_eq!(space.exists("k"), Ok(false));
    }
}

#[tokio::test]
async fn flushed_is_on_disk_and_a_second_opener_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = StateStore::open(dir.path()).expect("opened");
    assert!(matches!(StateStore::open(dir.path()), Err(Error::Unavailable(_))), "one daemon a directory");
    let mut space = state.key_space(&plugin("p"), None, QUOTA);
    space.change(set("k", "v")).await.expect("set");
    space.flush().await.expect("flushed");
    // As a crash leaves it: a copy of the file while the store is open.
    let other = tempfile::tempdir().expect("a directory");
    std::fs::copy(dir.path().join("state.redb"), other.path().join("state.redb")).expect("copied");
    let copy = StateStore::open(other.path()).expect("opened");
    assert_eq!(text(copy.key_space(&plugin("p"), None, QUOTA).get("k").expect("read")), Some("v".to_owned()));
}

#[tokio::test]
async fn quotas_hold_and_what_is_refused_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = StateStore::open(dir.path()).expect("opened");
    let quota = Quota::per_tenant(100, 3);
    let mut space = state.key_space(&plugin("p"), None, quota);
    space.change(set("k", &"v".repeat(90))).await.expect("fits");
    let both = StateChange::Set(vec![("k".to_owned(), b"new".to_vec()), ("l".to_owned(), vec![b'x'; 98])]);
    assert!(matches!(space.change(both).await, Err(Error::Quota(text)) if text == "100 bytes"));
    assert_eq!(space.get("k").expect("read").map(|value| value.len()), Some(90), "a batch is made whole or not at all");
    assert_eq!(space.exists("l"), Ok(false));
    space.change(set("k", "short")).await.expect("smaller");
    for key in ["l", "m"] {
        space.change(set(key, "")).await.expect("fits");
    }
    assert!(matches!(space.change(set("n", "")).await, Err(Error::Quota(text)) if text == "3 keys"));
    assert!(matches!(space.change(StateChange::Increment("n".to_owned(), 1)).await, Err(Error::Quota(_))));
    space.change(StateChange::Delete(vec!["l".to_owned()])).await.expect("deleted");
    space.change(set("n", "")).await.expect("room again");
    let mut other = state.key_space(&plugin("p"), Some("t"), quota);
    other.change(set("k", &"v".repeat(90))).await.expect("each tenant has a quota of its own");
    let mut tight = state.key_space(&plugin("p"), Some("t"), Quota::per_tenant(10, 3));
    tight.change(set("k", &"v".repeat(50))).await.expect("less than before, though over a lowered quota");
    assert!(matches!(tight.change(set("k", &"v".repeat(60))).await, Err(Error::Quota(_))));
}

/// A flood of tenants ends at a bound, leaves those that are there alone, and is counted over a reopening.
#[tokio::test]
async fn all_tenants_together_have_a_quota() {
    let dir = tempfile::tempdir().expect("a directory");
    let quota = Quota { total_bytes: 1000, tenants: 3, ..Quota::per_tenant(900, 10) };
    let refused = |result: Result<ChangeResult, Error>| match result {
        Err(Error::Quota(over)) => over,
        other => panic!("{other:?}"),
    };
    for run in 0..2 {
        // The writer of the run before closes the file on a thread of its own.
        let state =
            trunkline_support::eventually("the file is free", || std::future::ready(StateStore::open(dir.path()).ok()))
                .await;
        let space = |plugin: &str, tenant: &str| state.key_space(&self::plugin(plugin), Some(tenant), quota);
        for tenant in ["a", "b", "c"] {
            space("p", tenant).change(set("k", &"v".repeat(200))).await.expect("set");
        }
        assert_eq!(refused(space("p", "d").change(set("k", "v")).await), "3 tenants (`tenants`)", "run {run}");
        // 3 keys, 3 names of two bytes each, 600 bytes of values: 391 are left.
        let (fits, too_much) = ("v".repeat(388), "v".repeat(389));
        assert_eq!(
            refused(space("p", "a").change(set("l", &too_much)).await),
            "1000 bytes of all tenants (`total`)",
            "run {run}"
        );
        space("p", "a").change(StateChange::Delete(vec!["k".to_owned()])).await.expect("deleted");
        space("p", "a").change(set("k", &"v".repeat(200))).await.expect("what was there is there again");
        space("p", "a").change(set("l", &fits[..290])).await.expect("it fits");
        space("q", "d").change(set("k", "v")).await.expect("another plugin has its own");
        space("p", "b").change(set("k", "smaller")).await.expect("smaller");
        space("p", "b").change(StateChange::Delete(vec!["k".to_owned()])).await.expect("deleted");
        space("p", "d").change(set("k", "v")).await.expect("a tenant left, and another one came");
        for key in ["k", "l"] {
            space("p", "a").change(StateChange::Delete(vec![key.to_owned()])).await.expect("deleted");
        }
        space("p", "d").change(StateChange::Delete(vec!["k".to_owned()])).await.expect("deleted");
        space("p", "c").flush().await.expect("flushed");
    }
}

#[tokio::test]
async fn keys_and_values_have_bounds() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = StateStore::open(dir.path()).expect("opened");
    let mut space = state.key_space(&plugin("p"), None, Quota::per_tenant(1 << 30, 10));
    for change in [
        set("", "v"),
        set(&"k".repeat(KEY_MAX_BYTES + 1), "v"),
        set("k", &"v".repeat(VALUE_MAX_BYTES + 1)),
        StateChange::Delete(vec!["k".to_owned(); BATCH_MAX + 1]),
    ] {
        assert!(matches!(space.change(change).await, Err(Error::Unfit(_))));
    }
    space.change(set("text", "seven")).await.expect("set");
    assert!(matches!(space.change(StateChange::Increment("text".to_owned(), 1)).await, Err(Error::Unfit(_))));
    space.change(set("n", &i64::MAX.to_string())).await.expect("set");
    assert!(matches!(space.change(StateChange::Increment("n".to_owned(), 1)).await, Err(Error::Unfit(_))));
    assert_eq!(space.change(StateChange::Increment("n".to_owned(), -1)).await, Ok(ChangeResult::Number(i64::MAX - 1)));
}

#[tokio::test]
async fn a_swap_needs_the_value_that_was_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = StateStore::open(dir.path()).expect("opened");
    let mut space = state.key_space(&plugin("p"), None, QUOTA);
    let swap = |seen: Option<&str>, value: &str| StateChange::Swap {
        key: "k".to_owned(),
        seen: seen.map(|seen| seen.as_bytes().to_vec()),
        value: value.as_bytes().to_vec(),
    };
    assert_eq!(space.change(swap(Some("x"), "1")).await, Ok(ChangeResult::Other(None)));
    assert_eq!(space.change(swap(None, "1")).await, Ok(ChangeResult::Done));
    assert_eq!(space.change(swap(None, "2")).await, Ok(ChangeResult::Other(Some(b"1".to_vec()))));
    assert_eq!(space.change(swap(Some("1"), "2")).await, Ok(ChangeResult::Done));
}

#[tokio::test]
async fn keys_come_in_pages() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = StateStore::open(dir.path()).expect("opened");
    let mut space = state.key_space(&plugin("p"), Some("t"), QUOTA);
    let wanted = (0..2500).map(|number| format!("k{number:05}")).collect::<Vec<_>>();
    for part in wanted.chunks(BATCH_MAX) {
        let pairs = part.iter().map(|key| (key.clone(), Vec::new())).collect();
        space.change(StateChange::Set(pairs)).await.expect("set");
    }
    state.key_space(&plugin("p"), Some("u"), QUOTA).change(set("other", "")).await.expect("set");
    let (mut found, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = space.keys(cursor.as_deref()).expect("read");
        found.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((found == wanted, pages), (true, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_at_a_time_lose_no_increment() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = StateStore::open(dir.path()).expect("opened");
    let mut tasks = tokio::task::JoinSet::new();
    let started = Instant::now();
    for _ in 0..16 {
        let state = state.clone();
        tasks.spawn(async move {
            for _ in 0..100 {
                let mut space = state.key_space(&plugin("p"), None, QUOTA);
                space.change(StateChange::Increment("n".to_owned(), 1)).await.expect("added");
                space.flush().await.expect("flushed");
            }
        });
    }
    tasks.join_all().await;
    println!("1600 durable increments, 16 at a time: {:?}", started.elapsed());
    assert_eq!(text(state.key_space(&plugin("p"), None, QUOTA).get("n").expect("read")), Some("1600".to_owned()));
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// A file below redb whose syncs and writes fail on command.
#[derive(Debug)]
struct FaultyFile {
    file: FileBackend,
    is_failing: Arc<AtomicBool>,
}

impl FaultyFile {
    fn check(&self) -> io::Result<()> {
        if self.is_failing.load(Ordering::Acquire) { Err(io::Error::other("for the test")) } else { Ok(()) }
    }
}

impl StorageBackend for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check().and_then(|()| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check().and_then(|()| self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check().and_then(|()| self.file.write(offset, data))
    }
}

#[tokio::test]
async fn calls_that_saw_a_lost_change_get_an_error_and_later_calls_see_the_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("state.redb");
    drop(table::open(&file).expect("made"));
    let is_failing = Arc::new(AtomicBool::new(false));
    let opened = File::options().read(true).write(true).open(&file).expect("a file");
    let backend = FaultyFile { file: FileBackend::new(opened).expect("a backend"), is_failing: is_failing.clone() };
    let database = Database::builder().create_with_backend(backend).expect("a database");
    let shared = Arc::new(StateShared::new(file, database));
    let (commands, received) = mpsc::channel(16);
    writer::start(shared.clone(), received).expect("started");
    let name = Arc::new(KeySpaceName { plugin: "p".to_owned(), tenant: String::new() });
    let space = || KeySpace::new(shared.clone(), commands.clone(), name.clone(), QUOTA);
    let mut first = space();
    first.change(set("k", "kept")).await.expect("set");
    first.flush().await.expect("on disk");
    let (mut writing, mut reading, mut waiting) = (space(), space(), space());
    writing.change(set("k", "lost")).await.expect("applied");
    assert_eq!(text(reading.get("k").expect("read")), Some("lost".to_owned()));
    waiting.change(set("l", "lost too")).await.expect("applied");
    is_failing.store(true, Ordering::Release);
    assert!(matches!(writing.flush().await, Err(Error::Unavailable(_))), "the change is not on disk");
    assert!(matches!(reading.flush().await, Err(Error::Unavailable(_))), "the value that was read is lost");
    assert!(matches!(waiting.flush().await, Err(Error::Unavailable(_))), "the other change is lost too");
    let mut later = space();
    assert_eq!(text(later.get("k").expect("read")), Some("kept".to_owned()));
    assert_eq!(later.exists("l"), Ok(false));
    later.change(set("k", "new")).await.expect("the store takes changes again");
    later.flush().await.expect("on disk");
}
