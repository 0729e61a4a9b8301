//! `[http]`.

use std::time::Duration;

use crate::keys::key::{Boolean, Forms, Key, Size, TextValue, Texts};
use crate::keys::routes::flow::DEDUPE_WINDOW;
use crate::keys::routes::route::MAX_BODY_MAX;
use crate::keys::secret::SECRET;
use crate::keys::section::Section;

pub(crate) static LISTEN: Key<TextValue> = Key::text(
    "listen",
    "either `IP:PORT` or `localhost:PORT`",
    "The address of the HTTP listener. `--listen`, `HOST` and `PORT` have precedence over `listen`. An address beyond loopback needs `tokens`.",
)
.or("127.0.0.1:8000");

pub(crate) static HOSTS: Key<Texts> = Key::texts(
    "hosts",
    "a host name, `*.DOMAIN` or an IP address, without a scheme and without a port",
    "Further host names and addresses by which clients reach the listener. The daemon refuses requests for other hosts.",
)
.note("`localhost`, loopback addresses, and every IP address if the listener is reachable beyond loopback");

pub(crate) static TOKENS: Key<Forms> = Key::forms(
    "tokens",
    "a list of secrets of at least 16 bytes, each written as `{ env = \"NAME\" }`, `{ file = \"PATH\" }` or `\"${NAME}\"`",
    Some(&SECRET),
    "The bearer tokens for requests below `/api`. Each request below `/api` needs one of the tokens.",
)
.note("no token is needed");

pub(crate) static MAX_BODY: Key<Size> =
    Key::size("max-body", 1, MAX_BODY_MAX, "The largest size of a request body.").or(1024 * 1024);

/// The default is longer than the time for which clients retry a publish.
pub(crate) const DEDUPE_DEFAULT: Duration = Duration::from_secs(24 * 3600);

pub(crate) static DEDUPE: Key<Forms> = Key::forms(
    "dedupe",
    "a duration, or a table `{ window, max }`",
    Some(&DEDUPE_WINDOW),
    "The time for which the daemon remembers the ids of accepted events. A repeated request within this time publishes nothing.",
)
.note("`\"24h\"`");

pub(crate) static RESERVED: Key<Boolean> = Key::boolean(
    "reserved",
    "`true` allows clients to use the nameless exchange and exchanges whose names begin with `trunkline.`.",
)
.or(false);

pub(crate) static HTTP: Section = Section {
    title: "[http]",
    about: "The settings of the HTTP listener. A change to the table [http] needs a restart of the daemon.",
    example: "[http]\nlisten = \"0.0.0.0:8000\"\ntokens = [{ env = \"TRUNKLINE_TOKEN\" }]\nhosts = \"trunkline.example.com\"\n",
    path: &["http"],
    keys: &[&[&LISTEN, &HOSTS, &TOKENS, &MAX_BODY, &DEDUPE, &RESERVED]],
    reserved: &[],
};
