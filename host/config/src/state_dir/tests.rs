use std::os::unix::fs::symlink;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::directory::COMPILED;
use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn open_to_all(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn what_was_open_is_closed_and_what_is_not_ours_is_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, elsewhere) = (dir.path().join("state"), dir.path().join("elsewhere"));
    for made in [&state.join("broker"), &state.join("photos"), &elsewhere] {
        std::fs::create_dir_all(made).expect("a directory");
    }
    let ours = ["state.redb", "dedupe.redb", "header-key", "rollouts.json", "broker/messages.redb", "broker/lock"];
    let others = ["notes.txt", "photos/cat.redb"];
    for name in ours.iter().chain(&others) {
        std::fs::write(state.join(name), "x").expect("written");
        open_to_all(&state.join(name), 0o644);
    }
    let script = elsewhere.join("script");
    std::fs::write(&script, "x").expect("written");
    for open in [&state, &state.join("broker"), &state.join("photos"), &elsewhere, &script] {
        open_to_all(open, 0o755);
    }
    symlink(&elsewhere, state.join("compiled")).expect("a link");
    symlink(&script, state.join("x.redb")).expect("a link");

    let held = StateDir::take(&state).expect("taken");
    assert_eq!((mode(&state), mode(&state.join("broker"))), (0o700, 0o700));
    for name in ours.iter().chain(&["lock"]) {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
    for name in others {
        assert_eq!(mode(&state.join(name)), 0o644, "{name}");
    }
    assert_eq!([mode(&elsewhere), mode(&script)], [0o755, 0o755], "links are not followed");

    let Err(StateDirError::Taken { by, .. }) = StateDir::take(&state) else { panic!("taken twice") };
    assert_eq!(by, format!("process {}", std::process::id()));
    assert_eq!(DirectoryLock::holder(&state), Some(by));
    drop(held);
    assert_eq!(DirectoryLock::holder(&state), None);
    drop(StateDir::take(&state).expect("taken again"));
}

#[test]
fn what_is_made_is_private() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("above/state");
    make(&state).expect("made");
    assert_eq!(mode(&state), 0o700);
    let path = state.join("a.redb");
    drop(file(&path).expect("made"));
    assert_eq!(mode(&path), 0o600);
    open_to_all(&path, 0o666);
    drop(file(&path).expect("opened"));
    assert_eq!(mode(&path), 0o600, "also when it was there");
    assert_eq!(new_file(&path).expect_err("there is a file").kind(), std::io::ErrorKind::AlreadyExists);
    let new = state.join("new");
    drop(new_file(&new).expect("made"));
    assert_eq!(mode(&new), 0o600);
    // Through a link, as systemd gives a directory below /var/lib/private.
    let link = dir.path().join("link");
    symlink(&state, &link).expect("a link");
    open_to_all(&state, 0o755);
    drop(StateDir::take(&link).expect("taken"));
    assert_eq!(mode(&state), 0o700);
}

#[test]
fn a_directory_of_all_users_is_nobodys_state() {
    let dir = tempfile::tempdir().expect("a directory");
    open_to_all(dir.path(), 0o1777);
    std::fs::write(dir.path().join("of-somebody-else"), "x").expect("written");
    assert!(matches!(StateDir::take(dir.path()), Err(StateDirError::Shared { .. })));
    assert_eq!(mode(dir.path()), 0o1777, "it is as it was");
    std::fs::remove_file(dir.path().join("of-somebody-else")).expect("removed");
    drop(StateDir::take(dir.path()).expect("a file system of its own"));
    assert_eq!(mode(dir.path()), 0o700);
    assert!(matches!(StateDir::take(Path::new("/proc/none")), Err(StateDirError::Unusable { .. })));
}

/// The loader refuses code that other users could have written, so such code must not get private permissions.
#[test]
fn compiled_code_that_others_could_write_is_not_made_trustworthy() {
    let dir = tempfile::tempdir().expect("a directory");
    let compiled = dir.path().join(COMPILED);
    std::fs::create_dir(&compiled).expect("made");
    open_to_all(&compiled, 0o777);
    drop(StateDir::take(dir.path()).expect("taken"));
    assert_eq!(mode(&compiled), 0o777);
    open_to_all(&compiled, 0o755);
    drop(StateDir::take(dir.path()).expect("taken"));
    assert_eq!(mode(&compiled), 0o700);
}
