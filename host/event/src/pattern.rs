//! Topic patterns: words between dots, `*` for exactly one word, `#` for any number of words, including none.
//!
//! This is the only matcher of the daemon: the embedded broker, grants, `trunkline check` and `trunkline replay` use it. One
//! walk matches a key against all patterns of a set. The walk takes at most as many steps as the words of the key times
//! the words of the patterns. As on RabbitMQ, an empty key has no word.

use std::collections::{HashMap, HashSet};

use super::name::{NameError, PATTERN_WORDS_MAX, RoutingKey};

impl RoutingKey {
    /// Checks a topic pattern, and writes it in its shortest form: `#.#.a` becomes `#.a`, and `#.*` becomes `*.#`.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn pattern(text: &str) -> Result<Self, NameError> {
        Self::new(text)?;
        let words = normal(text);
        if words.len() > PATTERN_WORDS_MAX {
            return Err(NameError::TooManyWords(words.len()));
        }
        Self::new(words.join("."))
    }

    /// Number of words that are `#`.
    #[must_use]
    pub fn hashes(&self) -> usize {
        words(self.as_str()).filter(|word| *word == "#").count()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('.').filter(move |_| !text.is_empty())
}

/// The shortest pattern that matches the same keys. Among neighbouring `*` and `#` all `*` come first, and one `#` is
/// enough.
fn normal(pattern: &str) -> Vec<&str> {
    let mut normal = Vec::new();
    let mut has_hash = false;
    for word in words(pattern) {
        match word {
            "#" => has_hash = true,
            "*" => normal.push(word),
            _ => {
                normal.extend(std::mem::take(&mut has_hash).then_some("#"));
                normal.push(word);
            }
        }
    }
    normal.extend(has_hash.then_some("#"));
    normal
}

/// A set of patterns, each with a value: a trie over the words of all patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternSet<T> {
    /// The first node is the root; each other node has one parent.
    nodes: Vec<PatternNode<T>>,
}

/// The continuations after some words; the numbers are indices of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PatternNode<T> {
    words: HashMap<Box<str>, usize>,
    star: Option<usize>,
    hash: Option<usize>,
    values: Vec<T>,
}

impl<T> PatternNode<T> {
    fn new() -> Self {
        Self { words: HashMap::new(), star: None, hash: None, values: Vec::new() }
    }
}

impl<T> Default for PatternSet<T> {
    fn default() -> Self {
        Self { nodes: vec![PatternNode::new()] }
    }
}

/// The nodes that the words of a key have led to so far.
struct Reached {
    /// Nodes reached by the last word. Each is in the list once, because each node has one parent.
    plain: Vec<usize>,
    /// Nodes of a `#`, which takes every further word: once reached, always reached.
    hashes: Vec<usize>,
    known: HashSet<usize>,
}

impl Reached {
    fn add<T>(&mut self, set: &PatternSet<T>, node: usize) {
        self.plain.push(node);
        self.add_hash(set, node);
    }

    /// A `#` behind a node also takes no word. In a normal pattern no `#` follows on another `#`.
    fn add_hash<T>(&mut self, set: &PatternSet<T>, node: usize) {
        if let Some(hash) = set.nodes[node].hash
            && self.known.insert(hash)
        {
            self.hashes.push(hash);
        }
    }
}

impl<T> PatternSet<T> {
    /// Adds a pattern, in its shortest form.
    pub fn insert(&mut self, pattern: &str, value: T) {
        let mut at = 0;
        for word in normal(pattern) {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            at = match word {
                "*" => *node.star.get_or_insert(next),
                "#" => *node.hash.get_or_insert(next),
                _ => *node.words.entry(word.into()).or_insert(next),
            };
            if at == next {
                self.nodes.push(PatternNode::new());
            }
        }
        self.nodes[at].values.push(value);
    }

    /// The values of every pattern that matches the key.
    pub fn find(&self, key: &str) -> impl Iterator<Item = &T> {
        let reached = self.walk(key);
        reached.plain.into_iter().chain(reached.hashes).flat_map(|node| &self.nodes[node].values)
    }

    /// Whether a pattern matches the key.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        self.find(key).next().is_some()
    }

    fn walk(&self, key: &str) -> Reached {
        let mut reached = Reached { plain: Vec::new(), hashes: Vec::new(), known: HashSet::new() };
        reached.add(self, 0);
        for word in words(key) {
            let before = std::mem::take(&mut reached.plain);
            // The nodes that this word reaches are not among `before`: they take the next word.
            let hashes = reached.hashes.len();
            for place in 0..before.len() + hashes {
                let from = before.get(place).copied().unwrap_or_else(|| reached.hashes[place - before.len()]);
                let node = &self.nodes[from];
                for next in node.words.get(word).copied().into_iter().chain(node.star) {
                    reached.add(self, next);
                }
            }
        }
        reached
    }
}

impl<'p, T> FromIterator<(&'p str, T)> for PatternSet<T> {
    fn from_iter<I: IntoIterator<Item = (&'p str, T)>>(patterns: I) -> Self {
        let mut set = Self::default();
        for (pattern, value) in patterns {
            set.insert(pattern, value);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use super::*;

    /// The definition of a match, in its shortest form.
    fn defined(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern.split_first(), words.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => (0..=words.len()).any(|skipped| defined(rest, &words[skipped..])),
            (Some((&"*", pattern)), Some((_, words))) => defined(pattern, words),
            (Some((word, pattern)), Some((first, words))) => word == first && defined(pattern, words),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    fn split(text: &str) -> Vec<&str> {
        words(text).collect()
    }

    fn random_words(random: &mut fastrand::Rng, alphabet: &[&'static str], most: usize) -> String {
        let length = random.usize(0..=most);
        (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect::<Vec<_>>().join(".")
    }

    #[test]
    fn a_set_agrees_with_the_definition() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut hits, mut misses) = (0, 0);
        for _ in 0..5000 {
            let alphabet = ["a", "b", "", "*", "#", "#", "a#", "**"];
            let patterns: Vec<String> = (0..8).map(|_| random_words(&mut random, &alphabet, 6)).collect();
            let set: PatternSet<usize> =
                patterns.iter().enumerate().map(|(place, pattern)| (pattern.as_str(), place)).collect();
            let key = random_words(&mut random, &["a", "b", "", "c", "a#", "*", "#"], 6);
            let fits = |pattern: &&String| defined(&split(pattern), &split(&key));
            let expected: BTreeSet<usize> = (0..patterns.len()).filter(|place| fits(&&patterns[*place])).collect();
            let found: Vec<usize> = set.find(&key).copied().collect();
            assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), expected, "{key:?} against {patterns:?}");
            assert_eq!(found.len(), expected.len(), "{key:?} against {patterns:?}: each once");
            (hits, misses) = (hits + found.len(), misses + patterns.len() - found.len());
        }
        assert!(hits > 2000 && misses > 2000, "too one-sided: {hits} hits, {misses} misses");
    }

    #[test]
    fn the_normal_form_matches_the_same_keys() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..5000 {
            let pattern = random_words(&mut random, &["a", "*", "#", "#"], 6);
            let short = normal(&pattern);
            assert_eq!(normal(&short.join(".")), short, "{pattern}: it is final");
            let key = random_words(&mut random, &["a", "b"], 6);
            assert_eq!(defined(&short, &split(&key)), defined(&split(&pattern), &split(&key)), "{pattern} {key}");
        }
    }

    #[test]
    fn patterns_are_short_and_bounded() {
        for (given, expected) in [
            ("", ""),
            ("a.b", "a.b"),
            ("#.#.#.#.#.#.#.#.z", "#.z"),
            (&"#.".repeat(120), "#."),
            ("#.*.#.*.a.#.#", "*.*.#.a.#"),
            ("##.#*", "##.#*"),
        ] {
            assert_eq!(RoutingKey::pattern(given).expect(given).as_str(), expected);
        }
        let words = |count: usize| vec!["*"; count].join(".");
        assert!(RoutingKey::pattern(&words(PATTERN_WORDS_MAX)).is_ok());
        let more = PATTERN_WORDS_MAX + 1;
        assert_eq!(RoutingKey::pattern(&words(more)), Err(NameError::TooManyWords(more)));
        assert_eq!(RoutingKey::pattern(&"#.".repeat(128)), Err(NameError::TooLong(256)));
        assert_eq!(RoutingKey::pattern("a\n"), Err(NameError::Control(1)));
        assert_eq!(RoutingKey::pattern("#.a.##.*.#").expect("a pattern").hashes(), 2);
    }

    /// Each pattern took minutes with a matcher that tries every rest of the key at every `#`.
    #[test]
    fn the_worst_patterns_cost_their_words_times_those_of_the_key() {
        let key = vec!["a"; 127].join(".");
        let patterns = [
            "#.".repeat(120) + "z",
            "#.a.".repeat(31) + "z",
            "#.*.".repeat(31) + "z",
            "#.a.a.".repeat(20) + "#.z",
            "*.#.a.".repeat(20) + "#.a.z",
        ];
        let set: PatternSet<()> = patterns.iter().map(|pattern| (pattern.as_str(), ())).collect();
        let began = Instant::now();
        for _ in 0..10 {
            assert!(!set.matches(&key));
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(set.matches(&format!("{key}.z")));
    }
}
