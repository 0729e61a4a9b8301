//! The known senders of webhooks. The key `provider` of a hook names one of the senders.

use crate::model::secret::Secret;

/// The conventions of one sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderProfile {
    /// The value of `provider`.
    pub name: &'static str,
    /// How a request proves its sender.
    pub scheme: SignatureScheme,
    /// How the sender checks the address of the hook.
    pub handshake: SenderHandshake,
    /// The form of the body.
    pub form: SenderForm,
    /// The body of the response to an accepted event.
    pub answer: SenderAnswer,
    /// Templates of the type. The first template that the request can fill counts, else the name of the hook.
    pub(crate) kinds: &'static [&'static str],
    /// Templates of the id. The first template that the request can fill counts.
    pub(crate) ids: &'static [&'static str],
    /// Templates of the source, for a sender whose ids belong to a source. The first template that the request can fill counts,
    /// else the path of the hook.
    pub(crate) sources: &'static [&'static str],
}

/// How a request proves its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureScheme {
    /// The signature is the HMAC-SHA256 of the body, in a header.
    OfBody {
        /// The header, in lower case.
        header: &'static str,
        /// The text before the signature.
        prefix: &'static str,
        /// The form of the signature.
        digits: MacDigits,
    },
    /// The secret itself is in a header.
    Plain {
        /// The header, in lower case.
        header: &'static str,
    },
    /// The secret itself is in a header, or the request has a signature like [`Self::Standard`]. The key of a signature is a secret
    /// with the prefix `whsec_`.
    PlainOrStandard {
        /// The header with the secret, in lower case.
        header: &'static str,
    },
    /// The secret itself is a bearer token or a parameter of the address.
    InAddress {
        /// The parameter of the query.
        parameter: &'static str,
    },
    /// The signature is `Stripe-Signature: t=TIME,v1=HMAC`. The HMAC covers the time, a dot and the body.
    Stripe,
    /// The signature is `X-Slack-Signature: v0=HMAC`. The HMAC covers `v0`, `X-Slack-Request-Timestamp` and the body, with colons
    /// between the parts.
    Slack,
    /// The signature is `webhook-signature: v1,HMAC`. The HMAC covers `webhook-id`, `webhook-timestamp` and the body, with dots
    /// between the parts. Svix writes `svix-` instead of `webhook-`. The secret is Base64, with or without the prefix `whsec_`.
    Standard,
}

/// The form of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacDigits {
    /// Hexadecimal digits.
    Hex,
    /// Base64 with padding.
    Base64,
}

/// How a sender checks the address of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenderHandshake {
    /// The sender does not check the address.
    None,
    /// The sender sends a GET request with `hub.verify_token`. The response contains the value of `hub.challenge`.
    Subscription,
    /// The sender sends a POST request of the type `url_verification`. The response contains the `challenge` of the request. The
    /// sender also checks the certificate of the address with GET requests and forms that contain `ssl_check=1`.
    Challenge,
    /// The sender sends an OPTIONS request with `WebHook-Request-Origin`, or a POST request with a validation event. The response
    /// contains the permission, or the code of the validation event.
    Validation,
}

/// The form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenderForm {
    /// The body is the data of one event.
    Event,
    /// The body is the data of one event, as JSON or as a form. The field `payload` of a form contains the data as JSON.
    EventOrForm,
    /// The body is one event or a list of events.
    Events,
}

/// The body of the response to an accepted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenderAnswer {
    /// The id, the exchange and the routing key of the event.
    Accepted,
    /// No body, because the sender would obey the body or show the body to a person.
    Empty,
}

/// `provider` of a hook, with the secrets of the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookProvider {
    /// The conventions of the sender.
    pub profile: SenderProfile,
    /// The secrets in `signature`. Each secret is valid.
    pub secrets: Vec<Secret>,
    /// The token of `handshake`.
    pub handshake_token: Option<Secret>,
}

/// The prefix of the secrets of Standard Webhooks.
pub const STANDARD_SECRET_PREFIX: &str = "whsec_";

/// The status of the response to every known sender. For some senders, every other status is a failure.
pub(crate) const SENDER_STATUS: u16 = 200;

/// Every known sender. Each id identifies one event. The id of a list of several messages is therefore the digest of the data, and
/// not the id of the first message.
pub(crate) const SENDERS: &[(&str, SenderProfile)] = &[
    (META.name, META),
    (WASENDER.name, WASENDER),
    (GITHUB.name, GITHUB),
    (GITLAB.name, GITLAB),
    (STRIPE.name, STRIPE),
    (SLACK.name, SLACK),
    (SHOPIFY.name, SHOPIFY),
    (STANDARD.name, STANDARD),
    (TELEGRAM.name, TELEGRAM),
    (EVENT_GRID.name, EVENT_GRID),
];

/// The conventions that most senders share. Each sender has its own name, scheme and templates.
const COMMON: SenderProfile = SenderProfile {
    name: "",
    scheme: SignatureScheme::Standard,
    handshake: SenderHandshake::None,
    form: SenderForm::Event,
    answer: SenderAnswer::Accepted,
    kinds: &[],
    ids: &[],
    sources: &[],
};

/// developers.facebook.com/docs/graph-api/webhooks/getting-started and docs/whatsapp/cloud-api/webhooks
const META: SenderProfile = SenderProfile {
    name: "meta",
    scheme: SignatureScheme::OfBody { header: "x-hub-signature-256", prefix: "sha256=", digits: MacDigits::Hex },
    handshake: SenderHandshake::Subscription,
    kinds: &["{data.object}.{data.entry[0].changes[0].field}", "{data.object}"],
    ids: &[
        "{data.entry[only].changes[only].value.messages[only].id}",
        // One message has several statuses. Each member of a group has its own status of the message.
        "{data.entry[only].changes[only].value.statuses[only].id}.{data.entry[only].changes[only].value.statuses[only].status}.{data.entry[only].changes[only].value.statuses[only].recipient_participant_id}",
        "{data.entry[only].changes[only].value.statuses[only].id}.{data.entry[only].changes[only].value.statuses[only].status}",
        "{data.entry[only].messaging[only].message.mid}",
        "{digest}",
    ],
    ..COMMON
};

/// wasenderapi.com/api-docs/webhooks/webhook-setup and the pages of its events
const WASENDER: SenderProfile = SenderProfile {
    name: "wasender",
    scheme: SignatureScheme::Plain { header: "x-webhook-signature" },
    kinds: &["{data.event}"],
    // `messages.upsert` and `messages.received` report one message each. Other events report changes to a message and have the id
    // of this message.
    ids: &["{data.event}.{data.data.messages.key.id}", "{data.event}.{data.data.messages[only].key.id}", "{digest}"],
    ..COMMON
};

/// docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
const GITHUB: SenderProfile = SenderProfile {
    name: "github",
    scheme: SignatureScheme::OfBody { header: "x-hub-signature-256", prefix: "sha256=", digits: MacDigits::Hex },
    form: SenderForm::EventOrForm,
    kinds: &["{header.X-GitHub-Event}.{data.action}", "{header.X-GitHub-Event}"],
    ids: &["{header.X-GitHub-Delivery}", "{digest}"],
    ..COMMON
};

/// docs.gitlab.com/user/project/integrations/webhooks. GitLab 19 has signing tokens beside secret tokens.
const GITLAB: SenderProfile = SenderProfile {
    name: "gitlab",
    scheme: SignatureScheme::PlainOrStandard { header: "x-gitlab-token" },
    kinds: &["{data.object_kind}.{data.object_attributes.action}", "{data.object_kind|data.event_name}"],
    // A webhook and the webhooks that it causes have the same `X-Gitlab-Event-UUID`.
    ids: &["{header.Idempotency-Key|header.webhook-id}", "{header.X-Gitlab-Event-UUID}.{digest}", "{digest}"],
    ..COMMON
};

/// docs.stripe.com/webhooks/signature
const STRIPE: SenderProfile = SenderProfile {
    name: "stripe",
    scheme: SignatureScheme::Stripe,
    kinds: &["{data.type}"],
    ids: &["{data.id}", "{digest}"],
    ..COMMON
};

/// docs.slack.dev/authentication/verifying-requests-from-slack and reference/events/url_verification
const SLACK: SenderProfile = SenderProfile {
    name: "slack",
    scheme: SignatureScheme::Slack,
    handshake: SenderHandshake::Challenge,
    form: SenderForm::EventOrForm,
    answer: SenderAnswer::Empty,
    kinds: &["{data.event.type}", "{data.type}", "command.{data.command}"],
    ids: &["{data.event_id|data.trigger_id|digest}"],
    ..COMMON
};

/// shopify.dev/docs/apps/build/webhooks/subscribe/https and ignore-duplicates
const SHOPIFY: SenderProfile = SenderProfile {
    name: "shopify",
    scheme: SignatureScheme::OfBody { header: "x-shopify-hmac-sha256", prefix: "", digits: MacDigits::Base64 },
    kinds: &["{header.X-Shopify-Topic}"],
    // One event of a shop may have several topics.
    ids: &[
        "{header.X-Shopify-Event-Id}.{header.X-Shopify-Topic}",
        "{header.X-Shopify-Event-Id|header.X-Shopify-Webhook-Id|digest}",
    ],
    ..COMMON
};

/// github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
const STANDARD: SenderProfile = SenderProfile {
    name: "standard",
    scheme: SignatureScheme::Standard,
    kinds: &["{data.type}"],
    ids: &["{header.webhook-id|header.svix-id|digest}"],
    ..COMMON
};

/// core.telegram.org/bots/api#setwebhook
const TELEGRAM: SenderProfile = SenderProfile {
    name: "telegram",
    scheme: SignatureScheme::Plain { header: "x-telegram-bot-api-secret-token" },
    answer: SenderAnswer::Empty,
    kinds: &["{beside.update_id}"],
    ids: &["{data.update_id|digest}"],
    ..COMMON
};

/// learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema and the page for CloudEvents
const EVENT_GRID: SenderProfile = SenderProfile {
    name: "event-grid",
    scheme: SignatureScheme::InAddress { parameter: "code" },
    handshake: SenderHandshake::Validation,
    form: SenderForm::Events,
    kinds: &["{data.eventType}"],
    ids: &["{data.id|digest}"],
    // Two topics may use the same id for different events.
    sources: &["{data.topic}"],
    ..COMMON
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::http::template::Template;

    /// The templates of each sender can be parsed, and the headers of each sender are in lower case.
    #[test]
    fn every_sender_is_usable() {
        for (name, profile) in SENDERS {
            assert_eq!(*name, profile.name);
            assert!(!profile.kinds.is_empty() && !profile.ids.is_empty(), "{name}");
            for text in profile.kinds.iter().chain(profile.ids).chain(profile.sources) {
                Template::parse(text).unwrap_or_else(|error| panic!("{name}: {text} {error}"));
            }
            let header = match profile.scheme {
                SignatureScheme::OfBody { header, .. }
                | SignatureScheme::Plain { header }
                | SignatureScheme::PlainOrStandard { header } => header,
                SignatureScheme::InAddress { .. }
                | SignatureScheme::Stripe
                | SignatureScheme::Slack
                | SignatureScheme::Standard => "",
            };
            assert_eq!(header, header.to_lowercase(), "{name}");
        }
        let names = SENDERS.iter().map(|(name, _)| *name).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(names.len(), SENDERS.len());
    }
}
