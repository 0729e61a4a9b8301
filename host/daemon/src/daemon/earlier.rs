//! The directory where earlier versions kept the state of all routes files of a user, when nobody chose another one. What
//! lies there is not taken over, because it may be another project's; and it is not left there without a word.

use std::path::{Path, PathBuf};

use trunkline_broker::embedded;
use trunkline_config::Config;
use trunkline_config::state_dir::Lock;
use trunkline_state as state;

/// Queues that a line names.
const QUEUES_MAX: usize = 10;

/// Warns when the earlier directory still holds something. Looking takes a while where the store is large.
pub(super) async fn tell(config: &Config) {
    let Some(earlier) = config.earlier_state_dir.clone().filter(|earlier| earlier.is_dir()) else { return };
    let now = config.state_dir.clone();
    let looked = tokio::task::spawn_blocking(move || contents(&earlier).map(|held| advice(&earlier, &now, &held)));
    if let Ok(Some(advice)) = looked.await {
        tracing::warn!("{advice}");
    }
}

/// What a directory holds; none when that is nothing.
fn contents(dir: &Path) -> Option<String> {
    let mut held = Vec::new();
    match embedded::messages_in(dir) {
        Ok(queues) if queues.is_empty() => {}
        Ok(queues) => {
            let mut names: Vec<String> =
                queues.iter().take(QUEUES_MAX).map(|(queue, count)| format!("{queue} {count}")).collect();
            if queues.len() > QUEUES_MAX {
                names.push(format!("and {} queues more", queues.len() - QUEUES_MAX));
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
    let holder = Lock::holder(earlier).or_else(|| Lock::holder(&earlier.join("broker")));
    let first = match holder {
        Some(holder) => format!("stop {holder}, which uses it, and this daemon"),
        None => "stop this daemon".to_owned(),
    };
    let mut aside = now.as_os_str().to_owned();
    aside.push(".unused");
    let [from, to, aside] = [earlier.to_owned(), now.to_owned(), PathBuf::from(aside)].map(|path| quoted(&path));
    format!(
        "{from}, the default state directory of earlier versions, still holds {held}. This daemon uses {to} and does not \
         see any of it. To take it over, {first} and run: mv {to} {aside} && mv {from} {to}. To go on there, start with \
         --state {from}. To be told no more, move it away"
    )
}

/// As a shell takes it.
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
    fn commands_fit_a_shell() {
        assert_eq!(quoted(Path::new("/home/u/.local/state/trunkline")), "/home/u/.local/state/trunkline");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
        let text = advice(Path::new("/old"), Path::new("/p/.trunkline"), "2 messages (a 2)");
        assert!(text.contains("mv /p/.trunkline /p/.trunkline.unused && mv /old /p/.trunkline"), "{text}");
        assert!(text.contains("still holds 2 messages (a 2)") && text.contains("--state /old"), "{text}");
    }
}
