//! Placeholders of templates. A placeholder is the part of a template between braces.

/// The end of a placeholder whose value may contain dots.
const DOTTED: &str = ":dotted";

/// Headers that contain secrets. A placeholder would copy the secret into the event.
const SECRET_HEADERS: [&str; 7] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-gitlab-token",
    "x-hook-token",
    "x-telegram-bot-api-secret-token",
    "x-webhook-signature",
];

/// A placeholder `{SOURCE}`, `{SOURCE|SOURCE}` or `{SOURCE:dotted}`. The daemon inserts the value of the first source that has a
/// value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    written: String,
    sources: Vec<ValueSource>,
    dots: Dots,
}

/// Whether a value may contain dots in a routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dots {
    Refused,
    Kept,
}

/// The origin of an inserted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSource {
    /// `type`: the type of the event.
    Type,
    /// `data.FIELD[0].FIELD`: a field of the data.
    Data(Vec<PathStep>),
    /// `header.NAME`: a header of the request, in lower case.
    Header(String),
    /// `beside.FIELD`: the name of the other field of the data, if the data has exactly one field beside FIELD.
    Beside(String),
    /// `digest`: the SHA-256 of the data.
    Digest,
    /// `new`: a new id.
    New,
}

/// One step of the path to a field of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// A field of an object.
    Field(String),
    /// `[0]`: an element of a list.
    Place(usize),
    /// `[only]`: the element of a list with exactly one element.
    Only,
}

impl Placeholder {
    /// Reads the text between the braces.
    ///
    /// # Errors
    /// The problem, as the end of a sentence that begins with the complete text.
    pub(crate) fn parse(inside: &str) -> Result<Self, String> {
        let (sources, dots) = match inside.strip_suffix(DOTTED) {
            Some(sources) => (sources, Dots::Kept),
            None => (inside, Dots::Refused),
        };
        let problem = |problem: &str| format!("{problem} {{{inside}}}");
        let sources = sources.split('|').map(ValueSource::parse).collect::<Result<Vec<_>, _>>().map_err(problem)?;
        let before_last = &sources[..sources.len().saturating_sub(1)];
        if before_last.iter().any(|source| matches!(source, ValueSource::Type | ValueSource::Digest | ValueSource::New))
        {
            return Err(problem("has a source after a source that always has a value in"));
        }
        Ok(Self { written: inside.to_owned(), sources, dots })
    }

    /// The text between the braces.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The sources, in their order.
    pub fn sources(&self) -> impl Iterator<Item = &ValueSource> {
        self.sources.iter()
    }

    /// Whether a value with dots may become words of a routing key.
    #[must_use]
    pub fn is_dotted(&self) -> bool {
        self.dots == Dots::Kept
    }
}

impl ValueSource {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("data").filter(|path| path.starts_with(['.', '['])) {
            return steps(path).map(Self::Data);
        }
        match (text, text.split_once('.')) {
            ("type", _) => Ok(Self::Type),
            ("digest", _) => Ok(Self::Digest),
            ("new", _) => Ok(Self::New),
            (_, Some(("header" | "beside", ""))) => Err("has an empty name in"),
            (_, Some(("header", name))) => header(name),
            (_, Some(("beside", field))) => Ok(Self::Beside(field.to_owned())),
            (_, _) => Err("has the unknown placeholder"),
        }
    }

    /// Whether the value of the source comes from the data as JSON.
    pub(crate) fn reads_data(&self) -> bool {
        match self {
            Self::Data(_) | Self::Beside(_) => true,
            Self::Type | Self::Header(_) | Self::Digest | Self::New => false,
        }
    }
}

/// The steps of `.FIELD[0].FIELD`.
fn steps(path: &str) -> Result<Vec<PathStep>, &'static str> {
    let (mut steps, mut rest) = (Vec::new(), path);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let (name, after) = after.split_at(after.find(['.', '[']).unwrap_or(after.len()));
            if name.is_empty() {
                return Err("has an empty name in");
            }
            steps.push(PathStep::Field(name.to_owned()));
            rest = after;
        } else {
            let after = rest.strip_prefix('[').ok_or("has text after a ] in")?;
            let (place, after) = after.split_once(']').ok_or("has a [ without its ] in")?;
            steps.push(match place {
                "only" => PathStep::Only,
                place => {
                    PathStep::Place(place.parse().map_err(|_| "has a position that is neither a number nor `only` in")?)
                }
            });
            rest = after;
        }
    }
    Ok(steps)
}

fn header(name: &str) -> Result<ValueSource, &'static str> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let name = name.to_ascii_lowercase();
    if !name.bytes().all(is_name) {
        return Err("has an invalid header name in");
    }
    if SECRET_HEADERS.contains(&name.as_str()) {
        return Err("would copy a secret into the event with");
    }
    Ok(ValueSource::Header(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        let field = |name: &str| PathStep::Field(name.to_owned());
        for (good, sources, is_dotted) in [
            ("type", vec![ValueSource::Type], false),
            ("type:dotted", vec![ValueSource::Type], true),
            ("data.a.b", vec![ValueSource::Data(vec![field("a"), field("b")])], false),
            ("data[0].a:b", vec![ValueSource::Data(vec![PathStep::Place(0), field("a:b")])], false),
            (
                "data.entry[0].changes[only].field|header.X-Event:dotted",
                vec![
                    ValueSource::Data(vec![
                        field("entry"),
                        PathStep::Place(0),
                        field("changes"),
                        PathStep::Only,
                        field("field"),
                    ]),
                    ValueSource::Header("x-event".to_owned()),
                ],
                true,
            ),
            ("beside.update_id|new", vec![ValueSource::Beside("update_id".to_owned()), ValueSource::New], false),
            ("digest", vec![ValueSource::Digest], false),
        ] {
            let placeholder = Placeholder::parse(good).unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!((&placeholder.sources, placeholder.is_dotted()), (&sources, is_dotted), "{good}");
            assert_eq!(placeholder.written(), good);
        }
        for (bad, wanted) in [
            ("kind", "unknown placeholder"),
            ("", "unknown placeholder"),
            ("data", "unknown placeholder"),
            ("database.a", "unknown placeholder"),
            ("type.", "unknown placeholder"),
            ("type.a", "unknown placeholder"),
            ("data.", "empty name"),
            ("data.a..b", "empty name"),
            ("data.[0]", "empty name"),
            ("header.", "empty name"),
            ("data.a[0", "without its ]"),
            ("data.a[0]b", "text after a ]"),
            ("data.a[-1]", "neither a number nor `only`"),
            ("data.a[]", "neither a number nor `only`"),
            ("header.a b", "header name"),
            ("header.Authorization", "secret"),
            ("new|data.a", "always has a value"),
            ("data.a||new", "unknown placeholder"),
            ("data.a:words|new:dotted:", "unknown placeholder"),
        ] {
            let error = Placeholder::parse(bad).expect_err(bad);
            assert!(error.contains(wanted), "{bad}: {error}");
        }
    }
}
