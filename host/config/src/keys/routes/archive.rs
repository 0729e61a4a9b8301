//! `archive` of a route.

use std::time::Duration;

use crate::keys::key::{Inner, Key, Size, TextValue, TimeSpan};
use crate::keys::secret::SECRET;
use crate::keys::section::Section;

pub(crate) static DIR: Key<TextValue> = Key::text(
    "dir",
    "the path of a folder",
    "The folder for the files of the archive. A relative path is resolved from the directory of routes.toml. An archive needs exactly one of `dir` and `url`.",
);

pub(crate) static MAX_FILE: Key<Size> = Key::size(
    "max-file",
    64 << 10,
    64 << 30,
    "The size at which the daemon closes a file in `dir` and begins the next file.",
)
.or(64 << 20);

pub(crate) static URL: Key<TextValue> = Key::text(
    "url",
    "the URL `s3://BUCKET/PREFIX`",
    "The bucket for the objects of the archive. An archive needs exactly one of `dir` and `url`.",
);

pub(crate) static ENDPOINT: Key<TextValue> = Key::text(
    "endpoint",
    "a URL with `http://` or `https://`",
    "The address of the object storage that has the bucket in `url`.",
)
.note("the environment variable `AWS_ENDPOINT`, else the address of Amazon S3");

pub(crate) static REGION: Key<TextValue> =
    Key::text("region", "the name of a region", "The region of the bucket in `url`.")
        .note("the environment variable `AWS_REGION`");

pub(crate) static ACCESS_KEY: Key<Inner> =
    Key::table("access-key", &SECRET, "The id of the access key for the bucket in `url`.")
        .note("the environment variable `AWS_ACCESS_KEY_ID`");

pub(crate) static SECRET_KEY: Key<Inner> =
    Key::table("secret-key", &SECRET, "The secret access key for the bucket in `url`.")
        .note("the environment variable `AWS_SECRET_ACCESS_KEY`");

/// A bucket with an object for every event would be slow to read and expensive to keep.
pub(crate) const OBJECTS_WAIT: Duration = Duration::from_secs(5);

pub(crate) static WAIT: Key<TimeSpan> = Key::duration(
    "wait",
    Duration::ZERO,
    Duration::from_secs(300),
    "The longest time that a batch waits for more events before the daemon writes the batch.",
)
.note("`\"0ms\"` with `dir`, `\"5s\"` with `url`");

pub(crate) static ARCHIVE: Section = Section {
    title: "`archive` of [routes.NAME]",
    about: "An archive keeps events in a folder or in an S3-compatible bucket. `trunkline replay ROUTE` publishes archived events again.",
    example: "[routes.history]\nfrom = \"#\"\narchive = { url = \"s3://events/history\", endpoint = \"https://s3.example.com\", region = \"eu-1\", access-key = { env = \"S3_KEY\" }, secret-key = { env = \"S3_SECRET\" } }\n",
    path: &["routes", "*", "archive"],
    keys: &[&[&DIR, &MAX_FILE, &URL, &ENDPOINT, &REGION, &ACCESS_KEY, &SECRET_KEY, &WAIT]],
    reserved: &[],
};
