//! Every code that a diagnostic of the configuration may carry, with the texts of `trunkline explain`.
//!
//! A code is never used for another problem later; a code that is removed leaves a gap.

macro_rules! codes {
    ($($name:ident $code:literal $title:literal $meaning:literal $remedy:literal;)*) => {
        /// A kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $($name,)*
        }

        impl Code {
            /// All codes, in their order.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// `TL001`
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// A few words.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// The meaning of the code, and why it is a problem.
            pub(crate) const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// The instruction for the user.
            pub(crate) const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }

            /// Meaning and remedy as one paragraph.
            pub(crate) const fn text(self) -> &'static str {
                match self { $(Self::$name => concat!($meaning, " ", $remedy),)* }
            }
        }
    };
}

codes! {
    NoFile "TL001" "routes file cannot be read"
        "The routes file does not exist, or the daemon has no permission to read the file. The path of the file is the value of `--config FILE`, else the value of TRUNKLINE_CONFIG, else routes.toml in the current directory."
        "Name an existing file with `--config FILE`.";
    Syntax "TL002" "not TOML"
        "The file is not TOML 1.0, or has a key or a table twice. The daemon does not read the keys of a line with an error. Errors about missing keys are therefore left out until the line is correct."
        "Write a key and its value on one line, and put strings in quotes. Put a name with dots or spaces in quotes too, as in [exchanges.\"ocelot.events\"].";
    UnknownKey "TL003" "unknown key"
        "The section does not have this key. Unknown keys are errors, because the daemon would otherwise ignore a misspelt key without a report."
        "Correct the name of the key. Write keys in kebab-case, such as `max-body` instead of `max_body`. The page \"Keys of routes.toml\" lists the keys of each section.";
    LaterKey "TL004" "reserved key"
        "The key is reserved for a later version. This version of Trunkline does not use the key."
        "Remove the key.";
    WrongType "TL005" "wrong type"
        "The type of the value is not a type that the key allows."
        "Write durations (\"5s\") and sizes (\"64MiB\") as strings with a unit. Write counts as integers without quotes, and lists in [brackets].";
    MissingKey "TL006" "missing key"
        "A table has no value for a required key, or a list is empty."
        "Add the key or the value that the help line shows, or remove the table.";
    BadDuration "TL007" "not a duration"
        "The value is not a duration or a rate. A number without a unit is an error, because the number could mean seconds or milliseconds."
        "Write numbers with units: \"500ms\", \"5s\", \"2m\", \"24h\", \"7d\" or \"1h30m\". Write a rate as \"100/s\", \"600/m\" or \"10/h\".";
    BadSize "TL008" "not a size"
        "The value is not a size."
        "Write a number with a unit: \"512B\", \"64KiB\", \"1MiB\" or \"2GiB\" (powers of 1024), or \"64kB\" or \"1MB\" (powers of 1000).";
    OutOfBounds "TL009" "out of range"
        "The number, duration or size is outside the range of the key. The range of a key excludes zero if zero would stop all work. A time to live of zero, for example, would drop every message that no consumer receives at once."
        "Write a value within the range that the message shows.";
    UnknownWord "TL010" "unknown word"
        "The key allows only the words of a fixed list. The value is not one of these words."
        "Write one of the words that the message lists, in lower case and in quotes.";
    BadName "TL011" "invalid name"
        "The name has a character, a length or a prefix that is not allowed. The names of routes, plugins and derived queues are used as file names and metric labels. Names that begin with `amq.` belong to the broker."
        "For a route or a plugin, use letters, digits, '.', '_' and '-', and begin with a letter or digit. For a queue, an exchange or a routing key, use at most 255 bytes and no control characters. For an exchange whose name begins with \"amq.\", set `owned = false`.";
    UnknownExchange "TL012" "unknown exchange"
        "No table of [exchanges] describes this exchange. The type and the codec of the exchange are therefore unknown. The default exchange (`exchange` in [defaults], else \"events\") needs no table."
        "Correct the name, or add a table [exchanges.NAME]. Set `owned = false` for an exchange that another program declares.";
    UnknownQueue "TL013" "unknown queue"
        "The route consumes a queue that has no table in [queues]."
        "Correct the name, add a table [queues.NAME], or write `from = \"KEY\"` instead of `queue` for a queue that only this route uses.";
    Variable "TL014" "variable cannot be replaced"
        "A string refers to an environment variable that is not set, or has a `${` that does not begin a valid reference."
        "Set the variable, or write ${NAME:-DEFAULT}. With ${NAME:?MESSAGE}, the diagnostic shows your message. For a literal ${, write $${.";
    BadVariable "TL015" "unusable environment variable"
        "An environment variable that Trunkline reads has a value that cannot be used. The variable has precedence over the key in the file. The daemon therefore does not fall back to the value of the key. The diagnostic is a warning if another program has probably set the variable. The daemon then ignores the variable. Conda and some shells set HOST, and tools for serial ports set PORT. A Kubernetes service named `rabbitmq` sets RABBITMQ_PORT=tcp://10.0.0.1:5672 in every pod. The daemon reads the port from this value without a warning."
        "Correct or unset the variable. An empty variable counts as not set. The flag --listen replaces HOST and PORT. In Kubernetes, set `enableServiceLinks: false` in the pod.";
    BadFlag "TL016" "unusable flag"
        "A flag has a value that cannot be used. Flags have precedence over the environment and the file."
        "Correct the value of the flag as the message describes.";
    BrokerUrl "TL017" "invalid broker URL"
        "The URL of the broker cannot be used, or [broker] has `tls` together with an amqp:// URL. Without a URL, or with the word `embedded`, the daemon uses its embedded broker."
        "Write amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS. Percent-encode the user, the password and the virtual host. A URL without a virtual host means the virtual host \"/\". In the URL, the virtual host \"/\" is %2F.";
    LiteralSecret "TL018" "secret in the file"
        "The file contains a password or a token in clear text. Backups and version control then contain the secret too. The diagnostic is a warning. The daemon uses the secret."
        "Instead of a password, write ${RABBITMQ_PASSWORD}. Instead of a token, write {env = \"NAME\"} or {file = \"PATH\"}.";
    OpenListener "TL019" "open listener"
        "Other machines can reach the HTTP listener, and the listener or a hook accepts requests without a token. Every client on these machines could publish events."
        "Set `tokens` in [http], set `token` or `signature` of the hook, or listen on 127.0.0.1. Pass --insecure if a proxy in front of the daemon checks the requests.";
    BadAddress "TL020" "invalid address"
        "The value is not an address or a host name. The key `listen` allows only an IP address, because a name may have several addresses. The key `hosts` in [http] allows names and addresses without scheme and port."
        "Write `listen` as IP:PORT, such as \"127.0.0.1:8000\" or \"[::]:8000\". The name `localhost` means 127.0.0.1. Write `hosts` as \"trunkline.example.com\", \"*.example.com\" or \"10.0.0.7\".";
    ShortToken "TL021" "short token"
        "The token or the key has fewer than 16 bytes. An attacker can guess a short token or key."
        "Make a longer token or key with `openssl rand -hex 32`.";
    NoToken "TL022" "token cannot be read"
        "The environment variable of a token is empty or not set, or the file of a token cannot be used. The file must exist and must have 1 byte to 64 KiB."
        "Set the variable, or write the token into the file. A relative path is resolved from the directory of routes.toml. The daemon ignores white space at both ends of the file.";
    FromOrQueue "TL023" "`from` and `queue`"
        "A route must have exactly one of `from` and `queue`."
        "Write `from = \"KEY\"` for a queue that only this route uses and that is bound to the default exchange. Write `queue = \"NAME\"` for a queue of [queues].";
    SharedQueue "TL024" "queue with two routes"
        "Two routes consume the same queue. Each of the two routes would receive only some of the messages."
        "Give each route its own queue with the same binding (`from`). To handle messages faster, raise `concurrency` or run several daemons.";
    TakenQueue "TL025" "queue name is taken"
        "A derived queue has the name of another queue. A route with `from` has a derived queue with the name of the route. Other derived queues are QUEUE.dlq and QUEUE.waiting."
        "Rename the queue in [queues], or let the route consume the queue with `queue = \"NAME\"`.";
    MixedCodecs "TL026" "mixed codecs"
        "A queue receives messages with different codecs, but a queue can have only one codec."
        "Set `codec` in [queues.NAME], or use one queue for each codec.";
    TwoTypes "TL027" "contradiction"
        "The file sets one value in two places. [exchanges.NAME] and `exchange` in [defaults] set different types or codecs for one exchange, or a key is both in [defaults] and in `limits` of [defaults]."
        "Keep only one of the two values.";
    BadBinding "TL028" "binding does not fit"
        "The binding does not fit the type of the exchange. A binding to a topic exchange or a direct exchange has `keys`. A binding to a headers exchange has `headers`. A binding to a fanout exchange needs neither `keys` nor `headers`. No queue can be bound to the nameless exchange (\"\"), because the nameless exchange reaches every queue by the queue's name. A topic pattern with more than two `#` causes a warning, because RabbitMQ may need seconds to match a long routing key."
        "Write the binding that fits the type of the exchange, or name another exchange.";
    Template "TL029" "invalid placeholder"
        "The text has a placeholder that the key does not allow, or a brace without the matching brace. Braces may only enclose placeholders. In a placeholder with several sources, a source that always has a value must be the last source. The sources `type`, `digest` and `new` always have a value."
        "Write {type} in `emit.key`. In a hook, write {data.FIELD}, {data.LIST[0].FIELD} and {header.NAME} in `key`, `type` and `id`. In a hook, only `key` may also have {type} and the ending `:dotted`. Only `id` may also have {digest} and {new}. Write {data.a|data.b} for the first value that exists.";
    Digest "TL030" "not a digest"
        "The value of `digest` is not the SHA-256 of a file in hexadecimal digits."
        "Write the 64 hexadecimal digits that `sha256sum FILE` prints, optionally after `sha256:`.";
    Cycle "TL031" "routes in a circle"
        "The emissions of the route come back to the route's own queue, directly or through other routes. One event could cause emissions until the daemon dead-letters an event that exceeds `max-hops`. The diagnostic is a warning, because a plugin may stop emitting earlier."
        "Change `key` or `exchange` in `emit`, or write a narrower pattern in `from`.";
    Nothing "TL032" "nothing to do"
        "The file describes no route, no queue, no hook and no event type, so the daemon has nothing to do. The diagnostic is a warning."
        "Add a table [routes.NAME] with `from` and `plugin`.";
    UnusedPlugin "TL033" "unused plugin"
        "No route names this plugin, so the daemon does not load the plugin. The diagnostic is a warning."
        "Name the plugin in a route, or remove the table of the plugin.";
    NoStateDir "TL034" "state directory cannot be used"
        "The path of the state directory is empty, or the path is relative and the current directory does not exist. The path is `--state`, else `state-dir` of the routes file, else $STATE_DIRECTORY, else .trunkline beside the routes file. The state directory contains the store of the embedded broker, the state of plugins, dedupe records and compiled code."
        "Name a directory with `--state DIR` or `state-dir = \"DIR\"`.";
    DeadLetterLoop "TL035" "dead letters in a circle"
        "Dead letters of this queue come back to this queue, directly or through other queues. The broker would drop these dead letters or move these dead letters endlessly."
        "Name a queue outside the circle in `dead-letter`.";
    HalfBroker "TL036" "incomplete broker settings"
        "RABBITMQ_PORT, RABBITMQ_USER, RABBITMQ_VHOST, `tls` or `management-url` is set. RABBITMQ_URL, RABBITMQ_HOST and `url` in [broker] are not set. The daemon therefore has no address of RabbitMQ. The daemon uses its embedded broker. The diagnostic is a warning."
        "Set RABBITMQ_HOST, RABBITMQ_URL or `url`, or remove the other settings.";
    TlsFile "TL037" "TLS file cannot be used"
        "A file of `tls` in [broker] cannot be read, or the file is not PEM."
        "For `ca` and `cert`, name files with certificates. For `key`, name a file with an unencrypted private key (PKCS#8, PKCS#1 or SEC 1). A relative path is resolved from the directory of routes.toml. Renewed files need no restart, because the daemon reads the files again for every session.";
    QuorumPriority "TL038" "priorities on a quorum queue"
        "The queue has `max-priority`, which only classic queues support. RabbitMQ refuses a quorum queue with `max-priority`. From version 4.0 on, quorum queues deliver by priority without a setting."
        "Remove `type`, or write `type = \"classic\"`.";
    Include "TL039" "include cannot be used"
        "An included file cannot be read, is included twice, or has a section that belongs in routes.toml. Another cause is a name that two files define."
        "Write each path relative to the directory of routes.toml. The last part of a path may contain *, as in \"routes.d/*.toml\". Define each name in one file. Keep the sections [broker], [http] and [defaults] and the keys of directories in routes.toml.";
    SamePlugin "TL040" "same plugin twice"
        "The key `canary` or `shadow` names the plugin that the key `plugin` of the route names too. The daemon would compare the plugin with itself."
        "Name another plugin in `canary` or `shadow`. Give the file of a new build another name, such as callback-task-next.wasm.";
    BadOrigin "TL041" "invalid origin"
        "The key `http` in `allow` lists origins. An origin is a scheme, a host and a port, without a path. An address that is not public must be in `private-networks` too. A name must resolve to addresses that are public or in `private-networks`."
        "Write \"https://api.example.com\", \"http://10.0.0.7:9000\", or \"https://*.example.com\" for every name that ends with \".example.com\".";
    BadNetwork "TL042" "invalid network"
        "The key `private-networks` in `allow` lists networks and addresses that are not public and that the plugin may connect to. The value is not a network or an address."
        "Write \"10.1.0.0/16\" or \"127.0.0.1\", and list the origin in `http` too.";
    BadSecret "TL043" "invalid secret"
        "A secret must have exactly one of `env` and `file`. A secret and a `config` key of one plugin cannot have the same name, because the plugin reads both through wasi:config/store."
        "Write { env = \"NAME\" } or { file = \"PATH\" }. A relative path is resolved from the directory of routes.toml. A missing secret of a plugin is not an error of the file. The routes of the plugin stay down while the secret is missing. The log and /health show the reason.";
    EmitGrant "TL044" "emission is not granted"
        "The route publishes to an exchange or with a key that `emit` in `allow` of its plugin does not list. An exchange that is not in the list causes an error, because no emission could be published. A key that is not in the list causes a warning, because a plugin may choose another key."
        "Add the exchange and the key to `emit` in `allow`, or change the key `emit` of the route.";
    BadSigner "TL045" "not a public key"
        "The key `require-signature` lists public keys of minisign. A public key has 56 characters and begins with RW."
        "Copy the second line of the .pub file. Sign the plugin with `minisign -S -m NAME.wasm`. The command writes NAME.wasm.minisig beside NAME.wasm.";
    ShadowGrants "TL046" "shadow with more grants"
        "The shadow has the grant `http` or `kv`, and the stable plugin does not have this grant. The daemon answers the host calls of a shadow from the recording of the stable plugin. The recording has no answers for a grant that only the shadow has, so the daemon would refuse these host calls. The diagnostic is a warning."
        "Give both plugins the same grants, or use the new version as a canary.";
    BadSchema "TL047" "invalid schema"
        "The file is not a JSON Schema (drafts 4 to 2020-12), or a `$ref` names a file that may not be read. A `$ref` may name a file in the directory of the schema or below this directory. The daemon does not fetch schemas over the network."
        "Correct the schema. A relative path is resolved from the directory of routes.toml. The daemon watches the file of the schema, so a correction takes effect at once.";
    BadHook "TL048" "invalid hook"
        "A hook must have its own path below /hooks/, a `status` of 200, 201, 202 or 204, and a valid header name in `signature`. A hook with `provider` cannot have `codec`, `status`, `token` or `header`, because the sender determines these settings. Only a hook with `provider = \"meta\"` can have a `handshake`. A hook cannot publish to the nameless exchange or to an exchange whose name begins with `trunkline.`, unless [http] has `reserved = true`. The diagnostic about the exchange is a warning."
        "Correct the key that the message names. Write `signature` as { header = \"X-Hub-Signature-256\", secret = { env = \"NAME\" } }. With `provider`, write `signature` as { secret = { env = \"NAME\" } }.";
    ManagementUrl "TL049" "invalid management URL"
        "`management-url` in [broker] is the address of RabbitMQ's management plugin. The daemon connects to the management plugin without TLS."
        "Write http://HOST:15672 on a private network. If `management-url` has no credentials, the daemon uses the credentials of the broker's URL.";
    OrderedTenants "TL050" "order and a rate for tenants"
        "With `rate` in `tenant`, the events of a tenant that sends too many events wait in the broker. Later events overtake the waiting events, so the route cannot keep the order of `order-by`."
        "Keep either `order-by` or `rate` in `tenant`. To limit a rate and keep the order, write `order-by = \"tenant\"` and the key `rate` of the route. The route then handles the events of a tenant one after another.";
    BadArchive "TL051" "invalid archive"
        "A route has either `plugin` or `archive`. An archive publishes nothing, so `emit`, `canary` and `shadow` have no effect in a route with `archive`. The table `archive` must have exactly one of `dir` and `url`."
        "Write { dir = \"archive\" } for a folder, or { url = \"s3://BUCKET/PREFIX\" } for object storage with the S3 protocol. The variables AWS_ENDPOINT, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set the defaults of `endpoint`, `region`, `access-key` and `secret-key`.";
    MayLose "TL052" "dead letters may be lost"
        "RabbitMQ itself dead-letters messages of this queue, for example at the delivery limit. These messages are lost while the dead-letter queue is missing or full. Only a quorum queue keeps a message until the dead letter is confirmed. The quorum queue must have `overflow = \"reject-publish\"` or no `max-length`. If a queue with `ttl` or `max-length` has no dead-letter queue, the broker drops the messages that expire or do not fit. The diagnostic is a warning."
        "Remove `max-length`, or write `overflow = \"reject-publish\"` beside `max-length`. Remove `type = \"classic\"` and `max-priority`. For a queue that no route consumes, write `owned = true`, or write `dead-letter = \"NAME.dlq\"`.";
    QueueOwner "TL053" "queue of other programs"
        "A key does not fit the value of `owned` in [queues.NAME]. With `owned = false`, only other programs declare and bind the queue, so the keys of a declaration have no effect. Only a queue with `owned = \"shared\"` can have `arguments`. An argument with its own key is written as the key. The daemon must declare every dead-letter queue. The queue of a route with `order-by` needs a single active consumer. On the embedded broker, the daemon makes a queue with `owned = false` itself, and the diagnostic is a warning."
        "Correct the key that the message names, or write `owned = \"shared\"` for a queue that other programs declare too.";
}

impl Code {
    /// Whether the code reports a missing item. A line with a syntax error explains such a report well enough.
    pub(crate) const fn is_absence(self) -> bool {
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

/// The paragraph of a code such as `TL012`, in either case; `None` for a code that the configuration does not have.
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
            assert!(!code.title().is_empty() && code.meaning().ends_with('.') && code.remedy().ends_with('.'));
        }
        assert_eq!(explain("TL999"), None);
        assert_eq!(explain("tl003"), explain("TL003"));
    }
}
