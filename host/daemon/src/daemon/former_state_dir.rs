//! The default state directory of earlier versions, which all routes files of a user shared. Its content is not adopted,
//! because it may belong to another project. A warning says what it holds.

use std::path::{Path, PathBuf};

use trunkline_broker::embedded;
use trunkline_config::Config;
use trunkline_config::state_dir::DirectoryLock;
use trunkline_state as state;

/// Queues that the warning names.
const QUEUES_MAX: usize = 10;

/// Warns when the former directory holds something. Reading a large store takes a while.
pub(super) async fn warn_about(config: &Config) {
    let Some(earlier) = config.earlier_state_dir.clone().filter(|earlier| earlier.is_dir()) else { return };
    let now = config.state_dir.clone();
    let found = tokio::task::spawn_blocking(move || contents(&earlier).map(|held| advice(&earlier, &now, &held)));
    if let Ok(Some(advice)) = found.await {
        tracing::warn!("{advice}");
    }
}

/// The content of a directory in words. `None` when the directory holds nothing.
fn contents(dir: &Path) -> Option<String> {
    let mut held = Vec::new();
    match embedded::messages_in(dir) {
        Ok(queues) if queues.is_empty() => {}
        Ok(queues) => {
            let mut names: Vec<String> =
                queues.iter().take(QUEUES_MAX).map(|(queue, count)| format!("{queue} {count}")).collect();
            if queues.len() > QUEUES_MAX {
                names.push(format!("and {} more queues", queues.len() - QUEUES_MAX));
            }
            held.push(format!("{} messages ({})", queues.values().sum::<u64>(), names.join(", ")));
        }
        Err(problem) => held.push(format!("messages that cannot be counted ({problem})")),
    }
    if state::is_kept_in(dir) {
        held.push("state of plugins".to_owned());
    }
    if dir.join("dedupe.redb").exists() {
        held.push("dedupe records".to_owned());
    }
    let (last, others) = held.split_last()?;
    Some(if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) })
}

fn advice(earlier: &Path, now: &Path, held: &str) -> String {
    let holder = DirectoryLock::holder(earlier).or_else(|| DirectoryLock::holder(&earlier.join("broker")));
    let first = match holder {
        Some(holder) => format!("stop {holder}, which uses the old directory, and this daemon"),
        None => "stop this daemon".to_owned(),
    };
    let mut aside = now.as_os_str().to_owned();
    aside.push(".unused");
    let [from, to, aside] = [earlier.to_owned(), now.to_owned(), PathBuf::from(aside)].map(|path| quoted(&path));
    format!(
        "{from}, the default state directory of earlier versions, still contains {held}. This daemon uses {to} \
         instead. To adopt the old content, {first} and run: mv {to} {aside} && mv {from} {to}. To use the old directory, \
         start the daemon with --state {from}. To end this warning, move the old directory away"
    )
}

/// A path, quoted for a shell if necessary.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    match text.bytes().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/home/u/.local/state/trunkline")), "/home/u/.local/state/trunkline");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
        let text = advice(Path::new("/old"), Path::new("/p/.trunkline"), "2 messages (a 2)");
        assert!(text.contains("mv /p/.trunkline /p/.trunkline.unused && mv /old /p/.trunkline"), "{text}");
        assert!(text.contains("still contains 2 messages (a 2)") && text.contains("--state /old"), "{text}");
    }
}
