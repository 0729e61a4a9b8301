//! Every code that a diagnostic of the configuration may carry, with the paragraph that `trunkline explain` prints.
//!
//! A code is never used for something else later; one that goes away leaves a gap.

macro_rules! codes {
    ($($name:ident $code:literal $text:literal;)*) => {
        /// A kind of mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Code {
            $($name,)*
        }

        impl Code {
            /// All of them.
            pub(super) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// `TL001`
            pub(super) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The paragraph.
            pub(super) const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    NoFile "TL001" "The routes file is not there or may not be read. `--config FILE` or TRUNKLINE_CONFIG says which one is meant; without either it is routes.toml in the current directory.";
    Syntax "TL002" "The file is not TOML 1.0. A key and its value stand on one line, strings are in double or single quotes, a name with dots or spaces is quoted: [exchanges.\"ocelot.events\"]. A key or a table given twice is an error of this kind too. What is on the lines around is still checked, but what seems to be missing because of the broken line is not told.";
    UnknownKey "TL003" "No table has this key. Keys are written in kebab-case (max-body, not max_body or maxBody). Nothing is ignored silently, because a misspelt key would then quietly mean its default.";
    LaterKey "TL004" "The key is part of the format, but this version does not carry it out, and a key that does nothing is worse than an error. Remove it, or comment it out until a version that has it.";
    WrongType "TL005" "The value has another type than the key takes. Durations (\"5s\") and sizes (\"64MiB\") are strings with a unit, counts are integers without quotes, lists are in [brackets].";
    MissingKey "TL006" "The table cannot mean anything without this key, or the list has nothing in it. The help line shows how it is written; what has a sensible default is never asked for.";
    BadDuration "TL007" "A duration is a string of numbers with units: \"500ms\", \"5s\", \"2m\", \"24h\", \"1h30m\". A bare number is refused because nobody can see whether it means seconds or milliseconds. Units: ms, s, m, h, d.";
    BadSize "TL008" "A size is a string with a unit: \"512B\", \"64KiB\", \"1MiB\", \"2GiB\" (powers of 1024), or \"64kB\", \"1MB\" (powers of 1000).";
    OutOfBounds "TL009" "The number, duration or size is outside what makes sense or what AMQP can carry. The message gives both bounds. Zero is refused where it would mean that nothing ever works: a time to live of zero drops every message that is not consumed at once.";
    UnknownWord "TL010" "The key takes one word of a fixed list, which the message gives. Words are written in lower case and in quotes.";
    BadName "TL011" "Names of routes, plugins and derived queues become file names, metric labels and parts of other names: letters, digits, '.', '_' and '-', beginning with a letter or digit. Queues, exchanges and routing keys are at most 255 bytes without control characters. Names that begin with `amq.` belong to the broker: no queue may have one, an exchange only with `owned = false`.";
    UnknownExchange "TL012" "Every exchange that is bound to or published to is described in [exchanges.NAME], so that Trunkline knows its type and its codec. The only one that needs no table is the default exchange (`exchange` in [defaults], \"events\" when not given). An exchange that others declare has `owned = false`.";
    UnknownQueue "TL013" "A route consumes a queue that is described in [queues.NAME]. With `from = \"key\"` instead of `queue` the route gets a queue of its own that needs no table.";
    Variable "TL014" "${NAME} in a string is replaced by the environment variable; it is an error when that is not set. ${NAME:-default} gives a default for one that is not set or empty, ${NAME:?message} an error text of your own. A literal ${ is written $${.";
    BadVariable "TL015" "An environment variable that Trunkline reads has a value that it cannot use. Environment goes over file, so the file's value is not taken instead. In Kubernetes a service named `rabbitmq` or `host` makes variables such as RABBITMQ_PORT=tcp://10.0.0.1:5672; `enableServiceLinks: false` in the pod turns that off. An empty variable counts as not set.";
    BadFlag "TL016" "A flag has a value that cannot be used. Flags go over environment and file.";
    BrokerUrl "TL017" "The broker's URL is amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS; user, password and vhost are percent-encoded, so the vhost \"/\" is %2F. `tls` in [broker] goes with amqps:// only. The word `embedded`, or no URL at all, means the broker inside Trunkline.";
    LiteralSecret "TL018" "A password or token stands in the file in clear text, so it is in backups and version control too. Refer to the environment with ${RABBITMQ_PASSWORD}, or for tokens with {env = \"NAME\"} or {file = \"PATH\"}. A warning only: it works.";
    OpenListener "TL019" "The HTTP listener is reachable from other machines, and without tokens everybody there could publish events. Set `tokens` in [http], listen on 127.0.0.1, or pass --insecure where something in front keeps strangers out.";
    BadAddress "TL020" "A listen address is IP:PORT such as \"127.0.0.1:8000\", \"0.0.0.0:8000\" or \"[::]:8000\"; `localhost` stands for 127.0.0.1. Other host names are refused, because they may mean several addresses. `hosts` in [http] lists the names and addresses under which clients reach the listener beside `localhost`, loopback addresses and, where it listens beyond loopback, addresses: \"trunkline.example.com\", \"*.example.com\" or \"10.0.0.7\", without scheme and port.";
    ShortToken "TL021" "A bearer token shorter than 16 bytes can be guessed. `openssl rand -hex 32` makes a good one.";
    NoToken "TL022" "The token's source cannot be read: the environment variable is not set, or the file is not there or is empty. A token in a file is its content without white space at both ends; a relative path begins at the directory of routes.toml.";
    FromOrQueue "TL023" "A route has exactly one of `from` and `queue`. `from = \"key\"` (or a list of keys) derives a queue named like the route and binds it to the default exchange; `queue = \"NAME\"` consumes a queue described in [queues.NAME].";
    SharedQueue "TL024" "Two routes that consume one queue would share its messages between them: each would see only some, by chance. For both to see all, give each its own queue with the same binding (`from`). To process faster, raise `concurrency` or run the daemon more than once.";
    TakenQueue "TL025" "The name of a queue that is derived (NAME for a route with `from`, QUEUE.dlq, QUEUE.retry.MILLISECONDS) is taken by another queue. A retry queue must not be described in [queues]; a route that should consume [queues.NAME] says `queue = \"NAME\"` instead of `from`.";
    MixedCodecs "TL026" "Messages in one queue look alike. Where they come from exchanges with different codecs, say with `codec` in [queues.NAME] which one it is, or use a queue for each.";
    TwoTypes "TL027" "Two places give one exchange different types or codecs, or give one key twice: [exchanges.NAME] and `exchange` in [defaults], or `limits` in [defaults] and the same key beside it. Keep one.";
    BadBinding "TL028" "What a binding matches depends on the type of the exchange: keys on topic and direct, nothing on fanout, `headers` on headers exchanges. AMQP's own default exchange (\"\") cannot be bound to: every queue is reachable there by its name anyway. A pattern is at most 64 words; with more than two `#` it is only warned of, because RabbitMQ needs long to match it against keys of many words.";
    Template "TL029" "`emit.key` is a routing key in which {type} stands for the type of the emission; in `key`, `type` and `id` of a hook {data.FIELD} stands for a field of the JSON data, in `key` also {type} for the type of the event. There is no other placeholder, and no way to write a brace.";
    Digest "TL030" "`digest` is the SHA-256 of the component: 64 hexadecimal digits, as `sha256sum` prints them, optionally after `sha256:`.";
    Cycle "TL031" "What the route emits matches the binding of its own queue, or of a queue whose route leads back to it: one event makes events for ever, until `max-hops` ends the chain in the dead-letter queue. A warning only, because plugins may stop by themselves.";
    Nothing "TL032" "The file describes no route, no queue, no hook and no event type, so the daemon would have nothing to do. The smallest useful file is a table [routes.NAME] with `from` and `plugin`.";
    UnusedPlugin "TL033" "No route names this plugin, so it is not loaded. Remove the table, or name it in a route.";
    NoStateDir "TL034" "The state directory holds the embedded broker, the state of plugins, dedupe records and compiled code. It is `--state`, else `state-dir` of the routes file, else $STATE_DIRECTORY, else .trunkline beside the routes file; a relative one needs a current directory that exists.";
    DeadLetterLoop "TL035" "Dead letters of this queue come back to it, at once or over other queues. The broker would drop or circulate them for ever.";
    HalfBroker "TL036" "Some of RABBITMQ_PORT, RABBITMQ_USER and RABBITMQ_VHOST, or `tls` or `management-url` in [broker], are set, but neither RABBITMQ_HOST nor RABBITMQ_URL nor a `url` in the file says where the broker is, so the embedded one is used. A warning only.";
    TlsFile "TL037" "A file of `tls` in [broker] cannot be read, or is not PEM. `ca` holds the certificates of those who may have signed the broker's, `cert` our own certificate with those between it and its CA, `key` its private key, unencrypted (PKCS#8, PKCS#1 or SEC 1). A relative path begins at the directory of routes.toml. The files are read again for every session, so renewed ones need no restart.";
    QuorumPriority "TL038" "Priorities are a thing of classic queues: RabbitMQ refuses a quorum queue with `max-priority` before 4.0 and knows two levels only after. With `type` not given, `max-priority` makes the queue a classic one.";
    Include "TL039" "`include` names further files with routes, queues, exchanges, plugins, hooks and event types, as paths from the directory of routes.toml; the last part may hold *, as in \"routes.d/*.toml\". Everything else (broker, http, defaults, directories) stands in routes.toml itself. A name is defined in one file only: two definitions are never merged.";
    SamePlugin "TL040" "`canary` and `shadow` of a route name another plugin than `plugin` does: the same one would be compared with itself. To try another build of a plugin, give its file a name of its own, for instance callback-task-next.wasm.";
    BadOrigin "TL041" "`http` in `allow` lists origins: scheme, host and port, such as \"https://api.example.com\" or \"http://10.0.0.7:9000\"; \"https://*.example.com\" covers every name below. Paths cannot be granted. Where the host is an address that is not public, `private-networks` has to list it too, and where it is a name, every address that it resolves to has to be public or listed.";
    BadNetwork "TL042" "`private-networks` in `allow` lists networks (\"10.1.0.0/16\") or addresses (\"127.0.0.1\") that are not public and may be connected to all the same: private, loopback, link-local and so on. The origins in `http` still have to match.";
    BadSecret "TL043" "A secret of a plugin is { env = \"NAME\" } or { file = \"PATH\" }; the plugin reads it through wasi:config/store under the secret's name, so that name cannot be one of `config` too. A relative path begins at the directory of routes.toml; white space at both ends is taken off. A secret that is not there is no error of the file: it holds the routes of its plugin down, with the reason in the log and in /health.";
    EmitGrant "TL044" "With `emit` in `allow` a plugin may emit only to the exchanges and keys that are listed; everything else is dead-lettered as `invalid`. This route publishes to an exchange that is not listed (an error: nothing it emits could be published), or with a key that is not (a warning, because a plugin may choose another key). Without `emit` in `allow` the route's own `emit` decides.";
    BadSigner "TL045" "`require-signature` lists public keys of minisign, at the top of the file for all plugins or in [plugins.NAME] for one: the second line of a .pub file, 56 characters that begin with RW. A plugin then needs a signature by one of these keys in a file of its name with .minisig after it, made with `minisign -S -m NAME.wasm`.";
    ShadowGrants "TL046" "What a shadow asks of `http` and `kv` is answered as the stable plugin was, and the stable plugin of this route may not ask at all: every question of the shadow would be refused. Grant both the same, or try the new version as a canary.";
    BadSchema "TL047" "`schema` names the file of a JSON Schema (drafts 4 to 2020-12) that the data of events has to fit. A relative path begins at the directory of routes.toml. A `$ref` may name a file beside the schema or below its directory; nothing is fetched from elsewhere. The files are watched, so a corrected schema is taken over at once.";
    BadHook "TL048" "A hook takes POST requests at a path of its own that begins with /hooks/, by default /hooks/NAME, and publishes each as an event. Two hooks cannot share a path. `status` is 200, 201, 202 or 204: what other successes mean, a published event is not. `signature` is { header = \"X-Hub-Signature-256\", secret = { env = \"NAME\" } }: an HMAC-SHA256 of the body in hexadecimal. A hook on the nameless exchange, or on one whose name begins with `trunkline.`, takes nothing unless [http] has `reserved = true`.";
    ManagementUrl "TL049" "`management-url` in [broker] is the address of RabbitMQ's management plugin, such as http://rabbit:15672; without a user and a password in it those of the broker's URL are taken. It is asked for what AMQP does not tell: unacknowledged messages and rates. TLS is not spoken to it, so it belongs on a network of yours.";
    OrderedTenants "TL050" "With a `rate` in `tenant`, events of a tenant that sends too many wait in the broker and are overtaken by what comes later, so they cannot run in the order of `order-by` too. `order-by = \"tenant\"` with `rate` keeps the order and lets one tenant's events run one after the other.";
    BadArchive "TL051" "`archive` of a route is { dir = \"archive\" } for a folder, or { url = \"s3://BUCKET/PREFIX\" } for object storage with S3's protocol; `endpoint`, `region`, `access-key` and `secret-key` ({ env = \"NAME\" } or { file = \"PATH\" }) say where and who, and what is left out comes from the usual AWS_ variables. A route has a `plugin` or an `archive`, and what an archive takes is kept, not published, so `emit`, `canary` and `shadow` mean nothing there.";
    MayLose "TL052" "RabbitMQ passes on what a queue gives up (TTL, length, delivery limit) in one of two ways: once, without looking what becomes of it, or until the target has confirmed it. It has the second way for quorum queues that refuse publishes when they are full. Without `max-length` a quorum queue of ours is such a queue; with it, `overflow = \"reject-publish\"` makes it one. Messages of a classic queue, or of one that drops its oldest messages, are lost when their dead-letter queue is away or full at that moment. A warning only.";
}

impl Code {
    /// Whether it tells of something that is not there, which a line with a syntax error explains well enough.
    pub(super) const fn is_absence(self) -> bool {
        matches!(
            self,
            Self::MissingKey
                | Self::UnknownExchange
                | Self::UnknownQueue
                | Self::FromOrQueue
                | Self::OpenListener
                | Self::Nothing
                | Self::UnusedPlugin
                | Self::MixedCodecs
        )
    }
}

/// The paragraph of a code such as `TL012`, in either case; none for a code that is not the configuration's.
#[must_use]
pub fn explain(code: &str) -> Option<&'static str> {
    Code::ALL.iter().find(|known| known.as_str().eq_ignore_ascii_case(code)).map(|known| known.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_well_formed_and_explained() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.as_str(), format!("TL{:03}", index + 1), "codes are numbered in order");
            let text = explain(code.as_str()).expect("every code has a paragraph");
            assert!(text.len() > 60 && text.ends_with('.'), "{}: {text}", code.as_str());
        }
        assert_eq!(explain("TL999"), None);
        assert_eq!(explain("tl003"), explain("TL003"));
    }
}
