//! Forms of messages.

/// The form in which a message carries an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// The body is the data. Everything else comes from AMQP properties.
    #[default]
    Raw,
    /// CloudEvents 1.0, binary and structured.
    Cloudevents,
    /// The JSON envelope of voice-by-kraliki.
    Ocelot,
}
