//! Topic patterns: words between dots, `*` for exactly one word, `#` for any number of words, none included.
//!
//! A trie over the words of all patterns, so that a key is matched against all of them in one walk.

use std::collections::{BTreeSet, HashMap};

/// All patterns of one exchange, each leading to numbers of queues.
#[derive(Debug, Default)]
pub(super) struct Trie {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    words: HashMap<String, Node>,
    star: Option<Box<Node>>,
    hash: Option<Box<Node>>,
    queues: Vec<usize>,
}

impl Trie {
    pub(super) fn insert(&mut self, pattern: &str, queue: usize) {
        let mut node = &mut self.root;
        for word in pattern.split('.') {
            node = match word {
                "*" => node.star.get_or_insert_default(),
                "#" => node.hash.get_or_insert_default(),
                _ => node.words.entry(word.to_owned()).or_default(),
            };
        }
        node.queues.push(queue);
    }

    /// Adds the queues of every pattern that matches the key; each once.
    pub(super) fn matches(&self, key: &str, found: &mut BTreeSet<usize>) {
        let words = key.split('.').collect::<Vec<_>>();
        walk(&self.root, &words, found);
    }
}

fn walk(node: &Node, words: &[&str], found: &mut BTreeSet<usize>) {
    if let Some(hash) = &node.hash {
        // `#` takes any number of words: try every rest, the empty one included.
        for skipped in 0..=words.len() {
            walk(hash, &words[skipped..], found);
        }
    }
    let Some((first, rest)) = words.split_first() else {
        found.extend(&node.queues);
        return;
    };
    if let Some(next) = node.words.get(*first) {
        walk(next, rest, found);
    }
    if let Some(star) = &node.star {
        walk(star, rest, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, as short as it can be said.
    fn defined(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern.split_first(), words.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => (0..=words.len()).any(|skipped| defined(rest, &words[skipped..])),
            (Some((&"*", pattern)), Some((_, words))) => defined(pattern, words),
            (Some((word, pattern)), Some((first, words))) => word == first && defined(pattern, words),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    fn random_words(random: &mut fastrand::Rng, alphabet: &[&'static str]) -> String {
        let length = random.usize(1..6);
        (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect::<Vec<_>>().join(".")
    }

    #[test]
    fn the_trie_agrees_with_the_definition() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut hits = 0;
        for _ in 0..2000 {
            let patterns: Vec<String> = (0..8).map(|_| random_words(&mut random, &["a", "b", "", "*", "#"])).collect();
            let mut trie = Trie::default();
            for (queue, pattern) in patterns.iter().enumerate() {
                trie.insert(pattern, queue);
            }
            let key = random_words(&mut random, &["a", "b", "", "c"]);
            let words: Vec<&str> = key.split('.').collect();
            let expected: BTreeSet<usize> = patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| defined(&pattern.split('.').collect::<Vec<_>>(), &words))
                .map(|(queue, _)| queue)
                .collect();
            let mut found = BTreeSet::new();
            trie.matches(&key, &mut found);
            assert_eq!(found, expected, "{key} against {patterns:?}");
            hits += found.len();
        }
        assert!(hits > 1000, "the patterns hardly ever matched: {hits}");
    }
}
